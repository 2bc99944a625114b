"""A large adapter, window by window: the same as at once, whatever the window."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_factories import tiny_spec
from generator_factories import tiny_condition, tiny_denoiser, tiny_layout

from lora_gen.adapter.io import load_adapter
from lora_gen.codec.pieces import factor_pieces
from lora_gen.errors import AdapterValueError, GeneratorError, OutputPathError, StorageError
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.pipeline_stream import StreamOptions, StreamRequest, stream_folder

SPEC = tiny_spec()
EXACT: dict[str, Any] = {"mixed_precision": False}
REQUEST = StreamRequest(prompts=["ab", "c"], base=SPEC, rank=3)


@pytest.fixture(scope="module", params=[0, 4], ids=["plain", "latent and trained at rank 2"])
def pipe(request: Any) -> LoraGenPipeline:
    latent = {"latent_dim": request.param, "max_rank": 2} if request.param else {}
    denoiser = tiny_denoiser(trained_bases=(SPEC.id,), **latent).requires_grad_(False)
    made = LoraGenPipeline.build(denoiser)
    made.set_progress_bar_config(disable=True)
    return made


def _at_once(pipe: LoraGenPipeline, seed: int = 5, **options: Any) -> Any:
    noise = torch.Generator().manual_seed(seed)
    return pipe(prompts=["ab", "c"], base=SPEC, rank=3, generator=noise, **options).adapters[0]


def _streamed(pipe: LoraGenPipeline, folder: Path, **options: Any) -> Any:
    chosen = StreamOptions(seed=5, **{**EXACT, **options})
    stream_folder(pipe, folder, REQUEST, options=chosen, exact=True)
    return load_adapter(folder, base=SPEC)


@pytest.mark.parametrize("window", [16, 48, 10**6])
def test_backbone_in_windows_is_the_backbone_at_once(window: int) -> None:
    denoiser, layout, condition = tiny_denoiser(), tiny_layout(), tiny_condition()
    whole = denoiser.prototype(condition, layout).states
    parts = [p.states for p in denoiser.prototypes(condition, layout, window)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)


def test_layout_in_windows_is_the_layout_at_once() -> None:
    layout = tiny_layout()
    roles, features = zip(
        *(layout.window(i, min(i + 7, layout.num_tokens)) for i in range(0, layout.num_tokens, 7)),
        strict=True,
    )
    assert torch.equal(torch.cat(roles), layout.slot_roles)
    assert torch.equal(torch.cat(features), layout.slot_features)


@pytest.mark.parametrize(
    "options", [{"window": 16}, {"window": 64, "workers": 2}, {}, {"guidance_scale": 2.0}]
)
def test_streamed_adapter_is_the_one_made_at_once(
    pipe: LoraGenPipeline, tmp_path: Path, options: dict[str, Any]
) -> None:
    guidance = {k: v for k, v in options.items() if k == "guidance_scale"}
    whole, streamed = _at_once(pipe, **guidance), _streamed(pipe, tmp_path / "out", **options)
    assert set(whole.pairs) == set(streamed.pairs)
    for name, pair in whole.pairs.items():
        for side in ("lora_a", "lora_b"):
            made = getattr(streamed.pairs[name], side).float()
            expected = getattr(pair, side)
            # the file is bfloat16: three significant digits
            torch.testing.assert_close(
                made, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max())
            )


def test_number_of_workers_does_not_change_a_byte(pipe: LoraGenPipeline, tmp_path: Path) -> None:
    for workers in (1, 3):
        _streamed(pipe, tmp_path / str(workers), window=16, workers=workers)
    one, three = ((tmp_path / str(n) / "adapter_model.safetensors").read_bytes() for n in (1, 3))
    assert one == three


def test_bfloat16_stays_near_float32(pipe: LoraGenPipeline, tmp_path: Path) -> None:
    exact, fast = (
        _streamed(pipe, tmp_path / str(fast), mixed_precision=fast) for fast in (False, True)
    )
    for name, pair in exact.pairs.items():
        other = fast.pairs[name].lora_a.float().flatten()
        assert torch.cosine_similarity(pair.lora_a.float().flatten(), other, dim=0) > 0.99


def test_portable_rank_is_padded_with_zeros(pipe: LoraGenPipeline, tmp_path: Path) -> None:
    stream_folder(pipe, tmp_path / "out", REQUEST, options=StreamOptions(**EXACT))
    pair = next(iter(load_adapter(tmp_path / "out", base=SPEC).pairs.values()))
    assert pair.rank == 8
    assert not bool(pair.lora_b[:, 3:].any())
    assert bool(pair.lora_b[:, :3].any())


def test_stream_refuses_a_base_it_was_not_trained_for(tmp_path: Path) -> None:
    made = LoraGenPipeline.build(tiny_denoiser(trained_bases=("acme/other",)))
    with pytest.raises(
        GeneratorError, match=r"trained for acme/other, not for .* `--allow-untrained`"
    ):
        stream_folder(made, tmp_path / "out", REQUEST, options=StreamOptions())
    assert not (tmp_path / "out").exists()


def test_stream_leaves_nothing_when_a_value_is_not_finite(tmp_path: Path) -> None:
    denoiser = tiny_denoiser(trained_bases=(SPEC.id,))
    denoiser.denoiser.output.bias.data.fill_(float("nan"))
    made = LoraGenPipeline.build(denoiser)
    with pytest.raises(AdapterValueError, match="values that are NaN, infinite"):
        stream_folder(made, tmp_path / "out", REQUEST, options=StreamOptions(**EXACT))
    assert list(tmp_path.iterdir()) == []


def test_stream_leaves_nothing_when_the_disk_is_full(
    pipe: LoraGenPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(StorageError, match=r"No space left on device\). Nothing was changed"):
        _streamed(pipe, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_stream_does_not_overwrite_unasked(pipe: LoraGenPipeline, tmp_path: Path) -> None:
    _streamed(pipe, tmp_path / "out")
    with pytest.raises(OutputPathError, match="exists already"):
        _streamed(pipe, tmp_path / "out")


def test_pieces_of_all_windows_are_the_factors(pipe: LoraGenPipeline) -> None:
    layout = tiny_layout(rank=2)
    tokens = torch.randn(layout.num_tokens, layout.width + 1)
    scaling = pipe.denoiser.token_scaling
    whole = list(factor_pieces(layout, scaling, tokens, 0))
    parts = [
        p
        for i in range(0, layout.num_tokens, 5)
        for p in factor_pieces(layout, scaling, tokens[i : i + 5], i)
    ]
    for piece in whole:
        key = (piece.module, piece.side, piece.component)
        joined = torch.cat([p.values for p in parts if (p.module, p.side, p.component) == key])
        assert torch.equal(joined, piece.values)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_streams_what_the_cpu_streams(tmp_path: Path) -> None:
    denoiser = tiny_denoiser(trained_bases=(SPEC.id,)).requires_grad_(False)
    on_cpu = _streamed(LoraGenPipeline.build(denoiser), tmp_path / "cpu")
    on_gpu = _streamed(LoraGenPipeline.build(denoiser.to("cuda")), tmp_path / "gpu")
    for name, pair in on_cpu.pairs.items():
        torch.testing.assert_close(on_gpu.pairs[name].lora_a, pair.lora_a, rtol=2e-2, atol=1e-3)
