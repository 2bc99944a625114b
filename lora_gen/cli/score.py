"""`lora-gen score`: predicted quality of an adapter, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_gen.cli.common import print_json, print_table, quiet_libraries
from lora_gen.cli.options import AdapterFolder, Json

if TYPE_CHECKING:
    from lora_gen.retrieval.encoder import WeightEncoder
    from lora_gen.retrieval.vectors import Vector


def _vector(encoder: WeightEncoder, text: str | None) -> Vector | None:
    """The encoder's vector of a description, if there is one."""
    if text is None:
        return None
    from lora_gen.conditioning.text import TextEncoder

    reader = TextEncoder.from_pretrained()
    return encoder.embed_texts(reader.encode([text]), reader)[0]


def score(
    adapter: AdapterFolder,
    *,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="What the adapter should do; judged on that. Default for a generated adapter: the "
            "description it was made from.",
        ),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option("--encoder", help="Folder of a trained adapter encoder. Default: embedded."),
    ] = None,
    json_output: Json = False,
) -> None:
    """Predict how well an adapter does its task, with an interval, or say that it is unknown.

    Example: lora-gen score my-adapter --text "keep only the last four digits"
    """
    from lora_gen.adapter.io import load_adapter
    from lora_gen.adapter.peft_format import PROVENANCE_NAME
    from lora_gen.cli.search import require_encoder
    from lora_gen.errors import ConfigError
    from lora_gen.retrieval.predict import DOUBTFUL_FIT, score_adapter, score_generated
    from lora_gen.strict_json import read_json

    quiet_libraries()
    trained, loaded = require_encoder(encoder), load_adapter(adapter)
    if (adapter / PROVENANCE_NAME).is_file():
        record = read_json(adapter / PROVENANCE_NAME, error=ConfigError)
        own = record.get("text") if trained.generated else None
        # Judged on what it was made from; the intervals know nothing of other wishes.
        is_own = isinstance(own, str) and text in (None, own)
        wanted = _vector(trained, own) if is_own else None
        found = score_generated(loaded, trained, text=wanted, record=record)
    else:
        found = score_adapter(loaded, trained, text=_vector(trained, text))
    if json_output:
        print_json(found.to_dict())
        return
    rows: list[tuple[str, object]] = [("known", "yes" if found.known else f"no: {found.reason}")]
    if found.accuracy is not None:
        rows.append(("predicted accuracy", f"{found.accuracy:.2f}"))
        rows.append(("90% interval", f"{found.low:.2f} to {found.high:.2f}"))
    rows += [(fact.name, f"{fact.answer} ({fact.probability:.0%})") for fact in found.facts]
    if found.base_fit is not None:
        fits = "doubtful" if found.base_fit < DOUBTFUL_FIT else "as expected"
        rows.append(("trained on this base", f"{fits} ({found.base_fit:+.1f})"))
    rows.append(("distance from training", f"{found.distance:.1f} of {found.limit:.1f}"))
    print_table(rows, header=("finding", "value"))
