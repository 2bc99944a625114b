"""Pretrain the tiny base on many-shot contexts of unlabeled input-output lines.

    python -m recipes.tiny_lm.pretrain --out lora_gen/assets/tiny_lm/base

The base learns to infer the task from the lines above; without lines it cannot know which one is
meant. 2 CPU cores: see `training.json` beside the weights for the time it took.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import LlamaConfig, LlamaForCausalLM

from recipes.tiny_lm.tokenizer import (
    BOS,
    EOS,
    NEWLINE_ID,
    PAD,
    SEPARATOR_ID,
    VOCAB_SIZE,
    build_tokenizer,
    encode_line,
)
from recipes.tiny_lm.world.tasks import Task, all_tasks

CONTEXT = 256
INPUT_WEIGHT = 0.05
"""Weight of the loss on input bytes: they are random, the outputs are what there is to learn."""


def build_model(width: int, layers: int) -> LlamaForCausalLM:
    """The base, randomly initialized."""
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=[EOS, NEWLINE_ID],
    )
    return LlamaForCausalLM(config)


def context(task: Task, rng: random.Random, length: int = CONTEXT + 1) -> np.ndarray:
    """`length` token ids: `<bos>` and as many lines of the task as fit, the last one cut."""
    parts, total = [np.array([BOS])], 1
    while total < length:
        line = encode_line(*task.draw(rng))
        parts.append(line)
        total += len(line)
    return np.concatenate(parts)[:length]


def batch(tasks: tuple[Task, ...], rng: random.Random, size: int) -> Tensor:
    """(size, CONTEXT + 1) token ids, one task a row."""
    return torch.from_numpy(np.stack([context(rng.choice(tasks), rng) for _ in range(size)]))


def output_weights(ids: Tensor) -> Tensor:
    """1 for targets that belong to an output or end it, INPUT_WEIGHT for the others; (B, T)."""
    is_tab, is_newline = ids == SEPARATOR_ID, ids == NEWLINE_ID
    inside = (is_tab.cumsum(1) - is_newline.cumsum(1)).clamp(0, 1).bool()
    return torch.where(inside, 1.0, INPUT_WEIGHT)


def optimizers(model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    return [muon, adamw]


def lr_scale(step: int, steps: int, warmup: int = 100) -> float:
    """Linear warm-up, constant, then a linear fall over the last 40%."""
    return min(1.0, (step + 1) / warmup, max(0.02, (steps - step) / (0.4 * steps)))


def train(args: argparse.Namespace) -> None:
    """Train for `args.minutes` or `args.steps`, whichever is given, and save the base."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    rng, tasks = random.Random(args.seed), all_tasks()
    model = build_model(args.width, args.layers)
    opts = optimizers(model, args.lr)
    compiled = torch.compile(model)
    start, history = time.time(), list[tuple[int, float, float]]()
    progress = tqdm(range(args.steps), mininterval=10)
    for step in progress:
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = args.lr * lr_scale(step, args.steps)
        ids = batch(tasks, rng, args.batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = compiled(input_ids=ids[:, :-1], use_cache=False).logits
        weights = output_weights(ids)[:, 1:]
        losses = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        loss = (losses * weights.flatten()).sum() / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"The loss is {loss.item()} at step {step}. Lower --lr.")
        if step % 50 == 0:
            late = (losses.detach() * weights.flatten()).view(args.batch, -1)[:, CONTEXT // 2 :]
            late_loss = (late.sum() / weights[:, CONTEXT // 2 :].sum()).item()
            history.append((step, round(loss.item(), 4), round(late_loss, 4)))
            progress.set_postfix(loss=loss.item(), late=late_loss)
        if args.checkpoint_every and step and step % args.checkpoint_every == 0:
            save(model, args, history, time.time() - start)
    save(model, args, history, time.time() - start)


def save(
    model: LlamaForCausalLM,
    args: argparse.Namespace,
    history: list[tuple[int, float, float]],
    seconds: float,
) -> None:
    """An ordinary Transformers folder, with the training record beside it."""
    out = Path(args.out)
    model.generation_config.eos_token_id = [EOS, NEWLINE_ID]
    model.generation_config.pad_token_id = PAD
    model.generation_config.max_new_tokens = 48
    model.save_pretrained(out)
    build_tokenizer().save_pretrained(out)
    record = {
        "recipe": vars(args) | {"out": ""},
        "seconds": round(seconds),
        "torch": torch.__version__,
    }
    record |= {"tasks": len(all_tasks()), "history": history}
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint-every", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
