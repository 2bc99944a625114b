from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch


@dataclass(frozen=True)
class TinyUnet:
    folder: Path

    def model(self) -> Any:
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel.from_pretrained(self.folder).eval()

    def output(self, model: Any) -> torch.Tensor:
        sample = torch.linspace(-1, 1, 4 * 64).reshape(1, 4, 8, 8)
        states = torch.linspace(-1, 1, 3 * 16).reshape(1, 3, 16)
        with torch.no_grad():
            return model(sample, 3, encoder_hidden_states=states).sample


@pytest.fixture(scope="session")
def tiny_unet(tmp_path_factory: pytest.TempPathFactory) -> TinyUnet:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    model = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
    )
    folder = tmp_path_factory.mktemp("unet")
    model.save_pretrained(folder)
    return TinyUnet(folder)
