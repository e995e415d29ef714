"""The runner of the coverage benchmark: groups are run apart, kept, and written together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = """# Coverage

Before.

<!-- tables: written by benchmarks/coverage.py -->
old rows
<!-- end of tables -->
After.
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "coverage.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


def test_kept_groups_and_the_one_just_run_are_written_into_the_page(tmp_path):
    kept, page = tmp_path / "kept", tmp_path / "page.md"
    kept.mkdir()
    page.write_text(PAGE, encoding="utf-8")
    earlier = {"name": "laws", "rows": [["law, a row", 960, 1000, 0.5]], "stress": [["law, a stress", 90, 100, 1.0]]}
    (kept / "laws.json").write_text(json.dumps({**earlier, "seconds": 1.0, "measured": "2026-01-02"}))
    done = _run("--only", "noise_scale", "--studies", "2", "--keep", str(kept), "--markdown", str(page))
    assert done.returncode == 0, done.stderr
    written = page.read_text(encoding="utf-8")
    assert written.startswith("# Coverage\n\nBefore.") and written.endswith("<!-- end of tables -->\nAfter.\n")
    assert "old rows" not in written
    assert "| law, a row | 96.0% | 1000 | 0.5 |  |" in written
    claim, stress = written.split("## Stress")
    assert "a stress" not in claim and "| law, a stress | 90.0% | 100 | 1 | BELOW |" in stress
    own = json.loads((kept / "noise_scale.json").read_text())
    assert {row[2] for row in own["rows"]} == {2} and all(row[0] in claim for row in own["rows"])


def test_a_group_that_does_not_exist_is_named(tmp_path):
    done = _run("--only", "slices,vertices")
    assert done.returncode == 2 and "no group vertices" in done.stderr
