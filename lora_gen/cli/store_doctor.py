"""`lora-gen doctor --store`: what is damaged in a zoo, and what to do about each finding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lora_gen.cli.common import console, print_json, printable
from lora_gen.errors import ZooError

if TYPE_CHECKING:
    from lora_gen.zoo.verify import VerifyReport


def examine_store(zoo: Path, *, sweep: bool, json_output: bool) -> bool:
    """Hash every file of the zoo, show what is wrong; True when every entry is whole.

    Args:
        zoo: The zoo's folder.
        sweep: Delete what no entry owns, provided that the catalog is intact.
        json_output: Print one JSON document instead of sentences.

    Raises:
        ZooError: It is no zoo.
        LockedError: With `sweep`, another process writes to it.
    """
    from lora_gen.zoo.store import CATALOG_NAME, Zoo
    from lora_gen.zoo.verify import VerifyReport

    swept: list[str] = []
    try:
        with Zoo.open(zoo, read_only=not sweep) as opened:
            swept += opened.repairs
            report = opened.verify()
            if sweep and not report.catalog:
                swept += [
                    f"removed `{name}`, which no entry owned"
                    for name in report.orphaned
                    if opened.folders.discard_orphan(name)
                ]
                report = opened.verify()
    except ZooError as error:
        if not (zoo / CATALOG_NAME).is_file():
            raise  # no zoo at all, which is another matter than a damaged one
        report = VerifyReport(checked=0, catalog=(str(error),))
    findings = list(_findings(report))
    if json_output:
        advice = [{"finding": f, "subject": s, "reason": r, "do": d} for f, s, r, d in findings]
        print_json({**report.to_dict(), "findings": advice, "swept": swept})
        return report.ok
    for line in swept:
        console().print(printable(line))
    for finding, subject, reason, step in findings:
        line = f"{finding} {subject}: {reason.rstrip('.')}. To do: {step}."
        console().print(printable(line), soft_wrap=True)
    verdict = "all whole" if report.ok else "DAMAGED"
    console().print(f"{report.checked} entries checked, {verdict}.")
    return report.ok


def _findings(report: VerifyReport) -> Iterator[tuple[str, str, str, str]]:
    """Finding, subject, reason and next step, gravest first."""
    for sentence in report.catalog:
        step = "restore the catalog from a copy; for one row, forget the entry and add it again"
        yield "damaged", "catalog", sentence, step
    again = "add the same adapter again, which mends it, or forget it"
    for entry_id, reason in report.damaged:
        yield "damaged", entry_id, reason, again
    for entry_id in report.missing:
        yield "missing", entry_id, "its folder is gone", again
    for entry_id in report.blocked:
        yield "blocked", entry_id, "served, although on the block-list", "forget it"
    for entry_id, reason in report.quarantined:
        yield "quarantined", entry_id, reason, "release or forget it"
    for name in report.orphaned:
        yield "orphaned", name, "no entry owns it", "delete it with `--sweep`"
    for name in report.unfinished:
        yield (
            "unfinished",
            name,
            "a writer is filling it, or was killed",
            "nothing; the next writer sweeps it",
        )
