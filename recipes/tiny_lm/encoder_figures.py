"""Write the tables and the picture of `docs/encoder.md` from the reports.

python -m recipes.tiny_lm.encoder_figures

`--check` changes nothing and fails if the page or the picture does not say what the reports say.
The reports are made by the modules of `lora_gen.evaluation` that the page names.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_gen.evaluation.encoder_report_text import figure
from recipes.tiny_lm import encoder_tables as tables

PAGE, PICTURE = Path("docs/encoder.md"), Path("docs/encoder.svg")
MEASURED = Path("lora_gen/assets/tiny_lm/encoder/report.json")
OTHERS = Path("docs/encoder")


def report(path: Path) -> dict[str, Any]:
    """A report as data."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def sections() -> dict[str, str]:
    """Name of each marked section of the page -> what it should hold."""
    own = report(MEASURED)
    quality = own["quality"]
    generated, others = (report(OTHERS / name) for name in ("generated.json", "baselines.json"))
    return {
        "retrieval": tables.retrieval_table(own["retrieval"]),
        "unseen": tables.unseen_table(own["retrieval"]["methods"]["encoder"]),
        "baselines": tables.baselines_table(others, own["retrieval"]),
        "quality": tables.quality_tables(quality, others),
        "facts": tables.facts_table(quality),
        "leak": tables.leak_table(own["leak"]),
        "generated": tables.generated_table(generated),
        "generated-methods": tables.generated_methods_table(generated),
        "choosing": tables.choosing_line(generated),
        "speed": tables.speed_table(report(OTHERS / "speed.json")),
        "kills": tables.kills_line(report(OTHERS / "kills.json")),
    }


def filled(text: str, found: Mapping[str, str]) -> str:
    """The page with every section between its markers replaced."""
    for name, section in found.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}\n{section}\n{end}{after}"
    return text


def main() -> None:
    """Write, or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    new = filled(text, sections())
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / PICTURE.name
        figure(report(MEASURED), drawn)
        same = new == text and drawn.read_bytes() == PICTURE.read_bytes()
        if check and not same:
            sys.exit(
                f"`{PAGE}` or `{PICTURE}` and the reports differ. Run "
                "`python -m recipes.tiny_lm.encoder_figures`."
            )
        if not check:
            PAGE.write_text(new, encoding="utf-8")
            PICTURE.write_bytes(drawn.read_bytes())


if __name__ == "__main__":
    main()
