"""Write the README's safety table from the reports in `docs/safety`.

    python -m tests.crash.safety_table
    python -m tests.crash.safety_table --adopt soak build/soak/report.json

`--check` changes nothing and fails if the README does not say what the reports say. `--adopt` keeps
a report first; parts of one measurement are kept as one. Reports without their own stamp need
`--command`, `--date` and `--code`. A measurement that has no report has no row.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REPORTS, README = ROOT / "docs" / "safety", ROOT / "README.md"
BEGIN, END = "<!-- safety:begin -->", "<!-- safety:end -->"
HEAD = ("what must hold", "measured", "by")
STAMP = ("command", "date", "code")

Report = dict[str, Any]


def corpus(report: Report) -> tuple[str, str]:
    """Row of the hostile cases."""
    return (
        "hostile files, archives, configs, prompts and faults are refused in one sentence",
        f"{report['passed']} of {report['cases']} numbered cases: {report['inputs']} inputs, "
        f"{report['judgments']} times at {report['entrances']} entrances, and "
        f"{report['tests_elsewhere']} tests of their own",
    )


def fuzz(report: Report) -> tuple[str, str]:
    """Row of the mutants, over all parts."""
    parts = report.get("parts", [report])
    mutants, bad = (sum(p["mutants"] for p in parts), sum(len(p["failures"]) for p in parts))
    return (
        "a damaged adapter is read whole or refused, never more",
        f"{mutants:,} mutants, {bad} failures",
    )


def guided(report: Report) -> tuple[str, str]:
    """Row of the coverage-guided fuzzing."""
    readers = report["readers"]
    runs, bad = (sum(one[name] for one in readers.values()) for name in ("runs", "failed"))
    return (
        "the readers agree with the libraries' on inputs that are guided by coverage",
        f"{runs:,} inputs for {', '.join(readers)}: {bad} failures",
    )


def kill_rounds(report: Report) -> tuple[str, str]:
    """Row of the random kills."""
    kept = f"{report['added'] + report['removed']:,} acknowledged changes"
    wrong = report["lost"] + report["resurrected"]
    return (
        "kill -9 of three writers and two readers loses nothing acknowledged",
        f"{report['rounds']:,} rounds, {report['kills']:,} kills, {kept}: {wrong} lost, "
        f"{report['half_visible']} half folders; restart {report['restart_seconds_median']:.2f} s, "
        f"slowest {report['restart_seconds_max']:.2f} s",
    )


def syscall_sweep(report: Report) -> tuple[str, str]:
    """Row of the deterministic faults."""
    wrong = sum(len(found["wrong"]) for found in report["operations"].values())
    return (
        "a kill, a full disk or an I/O error at any system call leaves the old state or the new",
        f"{report['points']:,} points of {len(report['operations'])} operations: {wrong} half",
    )


def power_loss(report: Report) -> tuple[str, str]:
    """Row of the crash states and refused steps."""
    wrong = sum(len(found["wrong"]) for found in report["operations"].values())
    return (
        "every disk that a power cut may leave recovers; a refused step is one sentence",
        f"{report['states']:,} states and {report['refused']:,} refusals of "
        f"{len(report['operations'])} operations: {wrong} wrong",
    )


def soak(report: Report) -> tuple[str, str]:
    """Row of the long run."""
    figures, requests = report["figures"], sum(report["answered"].values())
    moved = [
        f"{words} {figures[name]['early']:,.0f} → {figures[name]['late']:,.0f}"
        for name, words in (
            ("handles", "handles"),
            ("threads", "threads"),
            ("temporary_files", "temporary files"),
        )
        if "early" in figures[name]  # a run may be too short for one of them
    ]
    rss = figures["rss_bytes"]
    memory = f"memory {rss['growth']:+.1%} after minute {rss['after_second'] / 60:.0f}"
    return (
        "the app serves for hours; memory may grow by 5%, the rest not at all",
        f"{report['seconds'] / 3600:.1f} h, {requests:,} requests, {report['failures']} failures; "
        + ", ".join([memory, *moved]),
    )


def suspects(report: Report) -> tuple[str, str]:
    """Row of the planted backdoors."""
    held, alarms = report["held_out"], report["clean_among_the_first_tenth"]["value"]
    found, chance = held["among_the_first_tenth"]["value"], held["auroc"]
    return (
        "planted backdoors rank before clean adapters: weakly, so a place clears nobody",
        f"AUROC {chance['value']:.2f} [{chance['low']:.2f}, {chance['high']:.2f}] on "
        f"{held['adapters']} adapters of {len(held['kinds'])} kinds, none tuned on; {found:.0%} of "
        f"them, and {alarms:.0%} of clean ones, are among the first tenth",
    )


ROWS: dict[str, Callable[[Report], tuple[str, str]]] = {
    "corpus": corpus,
    "fuzz": fuzz,
    "guided": guided,
    "syscall_sweep": syscall_sweep,
    "kill_rounds": kill_rounds,
    "power_loss": power_loss,
    "soak": soak,
    "suspects": suspects,
}
"""Name of a report -> what its row says."""


def table(reports: dict[str, Report]) -> str:
    """The README's section, markers excluded."""
    lines = [f"| {' | '.join(HEAD)} |", "| --- | --- | --- |"]
    for name, row in ROWS.items():
        if name in reports:
            what, measured = row(reports[name])
            note = f"; {reports[name]['note']}" if "note" in reports[name] else ""
            lines.append(f"| {what} | {measured}{note} | `{reports[name]['command']}` |")
    dates = sorted({report["date"] for report in reports.values()})
    where = next(iter(reports.values()))["machine"]
    note = (
        f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))} on {where['cores']} CPU "
        f"cores, shared with other work, Python {where['python']}. The reports, each with its "
        "commit, are in [docs/safety](docs/safety); what they mean and what is not protected is "
        "in [SECURITY.md](SECURITY.md) and [docs/crash_safety.md](docs/crash_safety.md)."
    )
    return "\n".join([*lines, "", note])


def read_reports(folder: Path = REPORTS) -> dict[str, Report]:
    """Name -> report, of those that were kept."""
    return {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in ROWS
        if (folder / f"{name}.json").is_file()
    }


def adopt(name: str, files: Sequence[Path], stamp: dict[str, str | None]) -> None:
    """Keep a report, or the parts of one, under its name in `docs/safety`."""
    parts = [json.loads(file.read_text()) for file in files]
    given = {key: value for key, value in stamp.items() if value is not None}
    shared = {key: parts[0][key] for key in (*STAMP, "machine") if key in parts[0]}
    made = {**shared, **given, **(parts[0] if len(parts) == 1 else {"parts": parts}), **given}
    missing = sorted({*STAMP, "machine"} - made.keys())
    if missing:
        raise SystemExit(f"`{files[0]}` does not say its `{missing[0]}`. Pass `--{missing[0]}`.")
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{name}.json").write_text(json.dumps(made, indent=2) + "\n")


def vars_of(chosen: argparse.Namespace) -> dict[str, str | None]:
    """What the command line says about a report."""
    return {key: getattr(chosen, key) for key in (*STAMP, "note")}


def main() -> int:
    """Adopt, then write or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail on a difference")
    parser.add_argument("--adopt", nargs="+", metavar=("NAME", "FILE"), help="keep a report first")
    for name in STAMP:
        parser.add_argument(f"--{name}", help="of a report that does not say it itself")
    parser.add_argument("--note", help="what a reader has to know beside the figures")
    chosen = parser.parse_args()
    if chosen.adopt:
        name, *files = chosen.adopt
        if name not in ROWS or not files:
            parser.error(f"`--adopt` takes one of {', '.join(ROWS)}, and then files")
        adopt(name, [Path(file) for file in files], vars_of(chosen))
    before = README.read_text("utf-8")
    start, rest = before.split(BEGIN, 1)
    after = f"{start}{BEGIN}\n{table(read_reports())}\n{END}{rest.split(END, 1)[1]}"
    if chosen.check:
        return int(after != before)
    README.write_text(after, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
