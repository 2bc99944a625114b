"""Put a trained encoder and its report under `lora_gen/assets/tiny_lm/encoder`.

python -m recipes.tiny_lm.ship_encoder --encoder build/tiny_lm/encoder/final
    --report build/tiny_lm/encoder_report --generated build/tiny_lm/generated.safetensors
    --assets lora_gen/assets/tiny_lm
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from lora_gen.files import publish_folder
from lora_gen.models.adapter_encoder import AdapterEncoder
from lora_gen.retrieval.base_frames import FRAMES_NAME
from lora_gen.retrieval.described import DESCRIBED_NAME
from lora_gen.retrieval.generated import GENERATED_NAME

MAX_BYTES = 11 * 2**20


def ship_encoder(
    encoder: Path, report: Path | None, target: Path, *, generated: Path | None = None
) -> int:
    """Write the encoder in float16, half the bytes; returns the size of the folder.

    Raises:
        ValueError: It is larger than what may be shipped.
    """
    model = AdapterEncoder.from_pretrained(encoder, use_safetensors=True).to(torch.float16)
    with publish_folder(target, overwrite=True) as folder:
        model.save_pretrained(folder)
        for name in (FRAMES_NAME, DESCRIBED_NAME):
            if (encoder / name).is_file():
                shutil.copy(encoder / name, folder / name)
        if generated is not None:
            shutil.copy(generated, folder / GENERATED_NAME)
        for path in sorted(report.glob("report.*")) if report else ():
            shutil.copy(path, folder / path.name)
        size = sum(path.stat().st_size for path in folder.iterdir())
        if size > MAX_BYTES:
            raise ValueError(f"`{encoder}` takes {size:,} bytes, but at most {MAX_BYTES:,} ship.")
    return size


def main() -> None:
    """Ship."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--generated", type=Path, help="calibration for generated adapters")
    parser.add_argument("--assets", type=Path, required=True)
    args = parser.parse_args()
    target = args.assets / "encoder"
    size = ship_encoder(args.encoder, args.report, target, generated=args.generated)
    print(f"{size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
