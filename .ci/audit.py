"""Ask pip-audit whether a pinned package has a known hole; silence is no answer.

    python .ci/audit.py constraints.txt

pip-audit skips a package that its database does not know, and still ends with 0. Here that is told
apart: 0 every pin was looked up and none is accused, 1 one is accused, 3 the database did not
answer for some. Advisories in `.ci/accepted.txt` (an id and a reason on a line) are not counted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ACCEPTED = Path(__file__).parent / "accepted.txt"
COMMAND = ("pip-audit", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format")
CLEAN, ACCUSED, UNANSWERED = 0, 1, 3


def accepted(path: Path = ACCEPTED) -> dict[str, str]:
    """Advisory -> why it does not concern us."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    rows = [line.split(maxsplit=1) for line in lines if line.strip() and line[0] != "#"]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def judge(report: dict[str, Any], pins: set[str], known: dict[str, str]) -> tuple[int, str]:
    """(exit code, sentence) of pip-audit's report.

    Args:
        report: What `pip-audit --format json` printed; empty when it printed nothing.
        pins: Names that had to be looked up.
        known: Advisories that are accepted.
    """
    found = report.get("dependencies", [])
    answered = {_plain(one["name"]) for one in found if "skip_reason" not in one}
    accused = [
        f"{one['name']} {one['version']}: {hole['id']}, fixed in "
        f"{', '.join(hole['fix_versions']) or 'no release'}"
        for one in found
        for hole in one.get("vulns", [])
        if not {hole["id"], *hole.get("aliases", [])} & known.keys()
    ]
    if accused:
        return ACCUSED, "Known holes: " + "; ".join(accused) + ". Raise the pins."
    missing = sorted(pins - answered)
    if missing:
        return UNANSWERED, (
            f"The vulnerability database did not answer for {len(missing)} of {len(pins)} pins "
            f"({', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}), so they are not "
            "audited. Run `python .ci/audit.py constraints.txt` where pypi.org can be reached."
        )
    return CLEAN, f"None of {len(pins)} pins has a known hole."


def pins_of(path: Path) -> set[str]:
    """Names of a constraints file."""
    return {_plain(name) for name in re.findall(r"^([\w.-]+)==", path.read_text("utf-8"), re.M)}


def main() -> int:
    """Audit, and say one sentence."""
    pins = Path(sys.argv[1])
    try:
        done = subprocess.run(
            [*COMMAND, "json", "-r", str(pins)], capture_output=True, text=True, check=False
        )
        report = json.loads(done.stdout or "{}")
    except (FileNotFoundError, ValueError) as error:
        print(f"pip-audit did not run ({error}). Install it: pip install pip-audit.")
        return UNANSWERED
    code, sentence = judge(report, pins_of(pins), accepted())
    print(sentence)
    return code


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
