"""The documented code runs as it stands, block after block, in a user's own folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [p for p in sorted((ROOT / "docs").glob("*.md")) if "<!-- run -->" in p.read_text("utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_code_runs(page: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"<!-- run -->\n```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if page.name == "fine_tuning.md":
        assert (tmp_path / "refined" / "adapter_model.safetensors").is_file()
        first, last = map(float, re.findall(r"loss ([\d.]+) to ([\d.]+)", done.stdout)[0])
        assert last <= first
