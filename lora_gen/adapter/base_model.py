"""What an adapter has to know of its base: its modules and their shapes, never its weights."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from lora_gen.adapter.minilm import MINILM, MINILM_ID, checked_minilm
from lora_gen.errors import AdapterMismatchError, BaseModelError
from lora_gen.strict_json import printable

ModuleType = Literal["linear", "conv1d", "conv2d"]
BaseKind = Literal["transformers", "diffusers"]

_PACKAGE = Path(__file__).parent.parent

EMBEDDED_BASES: Mapping[str, str] = {"tiny_lm": "assets/tiny_lm/base"} | {
    name: f"assets/{name}/base"
    for name in ("tiny_sd",)  # it ships once its recipe has been run
    if (_PACKAGE / "assets" / name / "base").is_dir()
}
"""Ids of the bases inside this package, which are not on the hub, and their folders."""

PACKAGED_BASES = (MINILM, MINILM_ID)
"""Names of the base that the extra `demo` installs."""

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
"""Parts of a Diffusers pipeline that LoRA adapts; their module paths begin with these names."""

_HUB_ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_ATTENTION = re.compile(r".*(attn|attention)\d*")


@dataclass(frozen=True, kw_only=True)
class ModuleShape:
    """A module that LoRA can adapt: an `nn.Linear`, GPT-2's `Conv1D`, or an ungrouped `Conv2d`."""

    type: ModuleType
    out_features: int
    """Output features, or channels."""

    in_features: int
    """Input features, or channels."""

    kernel: tuple[int, int] | None = None
    """Kernel (kh, kw) of a Conv2d."""

    def factor_shapes(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """PEFT's shapes of `lora_A` and `lora_B` at `rank`."""
        if self.kernel is None:
            return (rank, self.in_features), (self.out_features, rank)
        return (rank, self.in_features, *self.kernel), (self.out_features, rank, 1, 1)


@dataclass(frozen=True, kw_only=True)
class BaseModelSpec:
    """A base model as its adapters see it, from its config alone."""

    id: str
    """Hub id, embedded id, or folder."""

    kind: BaseKind
    architecture: str
    """Class name, such as `LlamaForCausalLM`; for Diffusers that of the denoiser."""

    task_type: str | None
    """PEFT's task type, None where PEFT has none."""

    modules: Mapping[str, ModuleShape]
    """Module path -> shape; a Diffusers path begins with its component."""

    num_layers: int
    hidden_size: int
    config_hash: str
    """Hex sha256 of the architecture's config, without names and versions."""

    heads: tuple[str, ...] = ()
    """Output heads, which `all-linear` leaves out."""

    def __post_init__(self) -> None:
        ordered = {name: self.modules[name] for name in sorted(self.modules)}
        object.__setattr__(self, "modules", MappingProxyType(ordered))

    @classmethod
    def from_config(
        cls, source: object, *, id: str | None = None, revision: str | None = None
    ) -> BaseModelSpec:
        """The spec of a base, built on the meta device.

        Args:
            source: Embedded id, folder (Transformers or Diffusers), hub id, or a Transformers
                config object.
            id: Name to record; by default the source's own.
            revision: Commit of a hub id.

        Raises:
            BaseModelError: The base is unknown, not available offline, or needs code of its own.
        """
        from lora_gen.adapter.probe import probe_base

        return probe_base(source, id=id, revision=revision)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content, `from_dict`'s input."""
        modules = {
            name: [shape.type, shape.out_features, shape.in_features, list(shape.kernel or ())]
            for name, shape in self.modules.items()
        }
        return {
            "id": self.id,
            "kind": self.kind,
            "architecture": self.architecture,
            "task_type": self.task_type,
            "modules": modules,
            "num_layers": self.num_layers,
            "hidden_size": self.hidden_size,
            "config_hash": self.config_hash,
            "heads": list(self.heads),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BaseModelSpec:
        """The spec that `to_dict` wrote.

        Raises:
            BaseModelError: A field is missing or has another type.
        """
        try:
            modules = {
                name: ModuleShape(
                    type=kind,
                    out_features=int(out_features),
                    in_features=int(in_features),
                    kernel=(int(kernel[0]), int(kernel[1])) if kernel else None,
                )
                for name, (kind, out_features, in_features, kernel) in data["modules"].items()
            }
            fields = {**data, "modules": modules, "heads": tuple(data["heads"])}
            return cls(**fields)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise BaseModelError(
                f"The stored base spec is not readable ({type(error).__name__}: {error}). "
                "Build it again with `BaseModelSpec.from_config`."
            ) from error


def select_targets(spec: BaseModelSpec, target: str | Sequence[str]) -> tuple[str, ...]:
    """Module paths of `spec` that `target` means, sorted.

    Args:
        spec: The base.
        target: `all-linear` (PEFT's meaning: every linear module but the output head), `attention`
            or `mlp` (their share of it), or suffixes of module paths.

    Raises:
        BaseModelError: A name selects nothing.
    """
    linear = tuple(
        name
        for name, shape in spec.modules.items()
        if shape.type != "conv2d" and name not in spec.heads
    )
    if isinstance(target, str):
        groups: dict[str, Callable[[str], bool]] = {
            "all-linear": lambda name: True,
            "attention": _is_attention,
            "mlp": lambda name: _in_block(name) and not _is_attention(name),
        }
        if target not in groups:
            return select_targets(spec, [target])
        chosen = tuple(name for name in linear if groups[target](name))
        if not chosen:
            raise BaseModelError(
                f"`{target}` selects no module of `{spec.id}`. Name modules instead."
            )
        return chosen
    matches = {suffix: [n for n in spec.modules if matches_suffix(n, suffix)] for suffix in target}
    for suffix, names in matches.items():
        if not names:
            near = difflib.get_close_matches(
                suffix, {n.rsplit(".", 1)[-1] for n in spec.modules}, 3
            )
            raise BaseModelError(
                f"`{suffix}` matches no module of `{spec.id}`. Use `all-linear`, `attention`, `mlp`"
                + (
                    f", or one of {', '.join(f'`{name}`' for name in near)}."
                    if near
                    else ", or a module's suffix."
                )
            )
    return tuple(sorted({name for names in matches.values() for name in names}))


def matches_suffix(module: str, suffix: str) -> bool:
    """PEFT's rule for a listed target: the whole path, or its end behind a dot."""
    return module == suffix or module.endswith(f".{suffix}")


def shortest_suffixes(modules: Collection[str], known: Collection[str]) -> list[str]:
    """Suffixes that select exactly `modules` among `known`; full paths when nothing is known.

    Raises:
        AdapterMismatchError: A path is the end of a path that must not be selected.
    """
    wanted, others = set(modules), set(known) - set(modules)
    suffixes: set[str] = set()
    for module in sorted(wanted):
        parts = module.split(".")
        candidates = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        fitting = (c for c in candidates if not any(matches_suffix(other, c) for other in others))
        chosen = next(fitting, None) if known else module
        if chosen is None:
            raise AdapterMismatchError(
                f"`{module}` cannot be targeted alone: another module's path ends with "
                "it. Adapt both."
            )
        suffixes.add(chosen)
    return sorted(suffixes)


def resolve_base(id: str, *, revision: str | None = None, local_files_only: bool = False) -> Path:
    """The folder of a base model.

    Args:
        id: Embedded id such as `tiny_lm`, `minilm`, a local folder, or a hub id.
        revision: Commit of a hub id.
        local_files_only: Never ask the network; the hub's offline variables are honored either way.

    Raises:
        BaseModelError: The base is not embedded, not a folder, and cannot be had from the hub.
    """
    if id in EMBEDDED_BASES:
        folder = _PACKAGE / EMBEDDED_BASES[id]
        if not any((folder / name).is_file() for name in ("config.json", "model_index.json")):
            raise BaseModelError(
                f"The embedded base `{id}` is missing from `{folder}`. Install lora_gen again."
            )
        return folder
    local = local_folder(id)
    if local is not None:
        return local
    if id in PACKAGED_BASES:
        folder_of_package = checked_minilm()
        if folder_of_package is not None:
            return folder_of_package
        id = MINILM_ID
    require_hub_id(id)
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        return Path(
            snapshot_download(
                id, revision=revision, local_files_only=local_files_only, allow_patterns=patterns
            )
        )
    except (OSError, ValueError) as error:
        raise unavailable_base(id) from error


def local_folder(name: str) -> Path | None:
    """The folder that `name` means on this machine, if there is one."""
    try:
        path = Path(name).expanduser()
        return path if name and path.is_dir() else None
    except (OSError, RuntimeError):  # too long a name; the home of an unknown user
        return None


def require_hub_id(id: str) -> None:
    """Check that `id` can be a hub id.

    Raises:
        BaseModelError: It is a path that does not exist, a URL, or not a name.
    """
    if len(id) > 96 or not _HUB_ID.fullmatch(id):
        raise BaseModelError(
            f"{printable(id, 96)} is neither an existing folder nor a hub id like `owner/name`; "
            f"embedded bases are {', '.join(f'`{name}`' for name in EMBEDDED_BASES)}."
        )


def unavailable_base(id: str) -> BaseModelError:
    """The error for a base that neither disk, cache nor hub can give."""
    return BaseModelError(
        f"The base `{id}` is not a local folder, not in the hub's cache, and could not be "
        "downloaded. "
        "Check the name and the network, or pass a folder."
    )


def _is_attention(module: str) -> bool:
    return any(_ATTENTION.fullmatch(part.lower()) for part in module.split("."))


def _in_block(module: str) -> bool:
    return any(part.isdigit() for part in module.split("."))
