"""Nobody waits for a run that is not theirs, and a run that nobody wants ends at once."""

import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from app.service.generation import GenerateRequest, before_every_layer, sample
from app.service.models import Models
from app.service.sessions import CancelledError
from app.settings import AppConfig

PATIENCE = 60.0


@pytest.fixture(scope="module")
def models() -> Models:
    config = AppConfig()
    made = Models(config.generator, config.bases)
    made.text_encoder()
    return made


def test_text_is_read_while_a_run_samples(models: Models) -> None:
    read = threading.Event()

    def reading() -> None:
        models.text_encoder().encode(["keep only the digits"])
        read.set()

    with models.pipeline():
        threading.Thread(target=reading, daemon=True).start()
        assert read.wait(PATIENCE)


def test_cancelled_run_ends_within_a_step(models: Models) -> None:
    cancelled, layers = threading.Event(), []
    request = GenerateRequest(description="keep only the digits", rank=64, candidates=8, steps=1)

    def look() -> None:
        layers.append(cancelled.is_set())
        if len(layers) == 40:
            cancelled.set()

    with models.pipeline() as pipe:
        denoiser = pipe.denoiser
    with before_every_layer(denoiser, look), pytest.raises(CancelledError):
        list(sample(models, request, cancelled))
    assert layers.count(True) <= 1


def test_layers_are_watched_only_inside_the_block() -> None:
    model, seen = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), []
    with before_every_layer(model, lambda: seen.append(time.monotonic())):
        model(torch.zeros(1, 2))
    model(torch.zeros(1, 2))
    assert len(seen) == 3


def test_models_share_one_text_encoder(models: Models, tmp_path: Path) -> None:
    with models.pipeline() as pipe:
        assert models.text_encoder() is pipe.encoder


def test_whoever_waits_for_a_run_may_give_up(models: Models) -> None:
    def look() -> None:
        raise CancelledError

    with (
        models.pipeline(),
        pytest.raises(CancelledError),
        models.pipeline(look=look),
    ):
        pass
