"""What a module does in its base, read from its name: words that architectures share."""

from __future__ import annotations

ROLES = ("q", "k", "v", "o", "qkv", "gate", "up", "down", "conv", "time", "proj", "other")

_LAST_NAMES = {
    **dict.fromkeys(("q_proj", "to_q", "query", "q", "q_lin", "add_q_proj"), "q"),
    **dict.fromkeys(("k_proj", "to_k", "key", "k", "k_lin", "add_k_proj"), "k"),
    **dict.fromkeys(("v_proj", "to_v", "value", "v", "v_lin", "add_v_proj"), "v"),
    **dict.fromkeys(("o_proj", "out_proj", "to_out", "o", "out_lin", "to_add_out"), "o"),
    **dict.fromkeys(("c_attn", "qkv", "Wqkv", "qkv_proj", "query_key_value"), "qkv"),
    **dict.fromkeys(("gate_proj", "wi_0", "gate_up_proj"), "gate"),
    **dict.fromkeys(("up_proj", "fc1", "c_fc", "wi", "wi_1", "Wi", "lin1", "proj_mlp"), "up"),
    **dict.fromkeys(("down_proj", "fc2", "wo", "lin2"), "down"),
    **dict.fromkeys(("conv1", "conv2", "conv", "conv_in", "conv_out", "conv_shortcut"), "conv"),
    **dict.fromkeys(("time_emb_proj", "linear_1", "linear_2", "linear"), "time"),
    **dict.fromkeys(("proj_in", "proj_out", "proj"), "proj"),
}


def role_of(name: str) -> str:
    """Role of a module path, one of `ROLES`."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    last, parents = parts[-1], parts[:-1]
    in_attention = any("attn" in part.lower() or "attention" in part.lower() for part in parents)
    if last in ("c_proj", "Wo"):
        return "o" if in_attention else "down"
    if last == "dense":
        return "o" if in_attention else ("up" if "intermediate" in parents else "down")
    return _LAST_NAMES.get(last, "other")
