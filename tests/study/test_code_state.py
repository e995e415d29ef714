"""A study knows which commit its trials come from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lrscale.report import ReportContext
from lrscale.report.base import make_card
from lrscale.report.sections.provenance import ProvenanceSection
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study
from lrscale.study.code_state import code_state
from lrscale.study.progress import SilentProgress
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "net.py").write_text("width = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", "net.py")
    commit(folder)
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path) -> None:
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-am", "Say it", "--no-gpg-sign")


def test_the_commit_and_what_differs_from_it_are_told(repository: Path, tmp_path: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")[:12]
    assert code_state(repository) == f"commit {head}"
    (repository / "notes.txt").write_text("not of the code")
    assert code_state(repository) == f"commit {head}"
    (repository / "net.py").write_text("width = 2\n")
    assert code_state(repository) == f"commit {head}, with changes in 1 file"
    assert code_state(tmp_path / "nowhere") is None


def test_without_git_the_state_is_not_known(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert code_state(repository) is None


def test_the_report_says_the_commit_and_that_it_has_changed(repository: Path, tmp_path: Path) -> None:
    from lrscale.recipe import Recipe

    plain = {
        "name": "shop",
        "task": SyntheticStudy().task,
        "experiments": {"range_test": {"seeds": 1, "steps": 20, "confirm": False}, "equivalence": None},
    }
    recipe = Recipe.model_validate(plain).placed(root=repository, text="", source="r.yaml", lines={})
    folder = StudyFolder(tmp_path / "S")

    def fact() -> tuple[str, str]:
        Study(recipe, folder).run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
        card = make_card(ProvenanceSection(), ReportContext.of(folder, view=StudyView.of(folder)))
        (found,) = [one for one in card.facts if one.term == "Code"]
        return found.value, found.detail

    first = git(repository, "rev-parse", "HEAD")[:12]
    assert fact() == (f"commit {first}", "")
    (repository / "net.py").write_text("width = 2\n")
    commit(repository)
    second = git(repository, "rev-parse", "HEAD")[:12]
    assert fact() == (f"commit {second}", "It has changed since the study began; when, is below.")
    assert [one["code"] for one in folder.read_plan()["decisions"] if "code" in one] == [f"commit {second}"]
