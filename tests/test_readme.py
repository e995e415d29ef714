"""README's commands are the ones that continuous integration runs."""

from __future__ import annotations

import re
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest


def _command(repository: Path, name: str) -> str:
    text = (repository / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"<!-- command: {name} -->\n```bash\n(.*?)\n```", text, flags=re.DOTALL)
    assert len(found) == 1, f"README has {len(found)} commands named {name}"
    return str(found[0])


@pytest.mark.parametrize("name", ["run", "tests"])
def test_each_command_is_one_line_that_installs_what_was_tested(repository: Path, name: str) -> None:
    command = _command(repository, name)
    assert "\n" not in command
    assert "-c constraints.txt" in command


def test_continuous_integration_runs_the_command_that_readme_spells(repository: Path) -> None:
    printed = subprocess.run(
        ["bash", str(repository / ".ci" / "run"), "--print-command"], capture_output=True, text=True, check=True
    )
    assert printed.stdout.rstrip("\n") == _command(repository, "tests")


@pytest.mark.slow
def test_the_notebook_example_is_short_and_runs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"<!-- example: notebook -->\n```python\n(.*?)\n```", text, flags=re.DOTALL)
    assert len([line for line in example.splitlines() if line]) < 10
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(example, "README.md", "exec"), names)
    found = names["found"]
    # Between these, runs of 100 steps at fixed LR end within a tenth of a nat of the lowest loss.
    assert 2e-3 < names["model"].lr < 3e-2
    printed = capsys.readouterr().out
    assert found.families[0].confirmation.sentence in printed
    assert "Noise scale" in printed


def test_links_to_files_of_the_repository_lead_somewhere(repository: Path) -> None:
    pages = [repository / "README.md", repository / "CONTRIBUTING.md", *sorted((repository / "docs").glob("*.md"))]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_constraints_name_every_direct_dependency(repository: Path) -> None:
    tomllib = pytest.importorskip("tomllib" if __import__("sys").version_info >= (3, 11) else "tomli")
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = (
        project["dependencies"] + project["optional-dependencies"]["test"] + project["optional-dependencies"]["dev"]
    )
    names = {_name(line) for line in wanted if "python_version < " not in line} - {"lrscale"}
    pinned = {
        _name(line)
        for line in (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    assert names <= pinned, sorted(names - pinned)


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()
