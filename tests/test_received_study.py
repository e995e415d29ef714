"""A study folder that somebody sent is read, fitted and reported without running any of its code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import StudyError
from lrscale.store import StudyFolder, StudyView
from lrscale.testing.synthetic import write_synthetic_study

MARKER = "LRSCALE_TEST_MARKER"
TRAP = f"""import os, pathlib
pathlib.Path(os.environ[{MARKER!r}]).touch()
class Model: ...
class Data: ...
"""
SCRIPT = "<script>alert('x')</script>"
READERS = ("report", "fit", "recommend", "status")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_study(tmp_path_factory.mktemp("sent") / "S").path


@pytest.fixture
def received(clean: Path, tmp_path: Path) -> Path:
    shutil.copytree(clean, tmp_path / "S")
    return tmp_path / "S"


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))


def lrscale(*arguments: str, paths: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with the trap importable from everywhere that a class path could be looked up."""
    return subprocess.run(
        [sys.executable, "-m", "lrscale", *arguments],
        cwd=paths,
        env={
            **os.environ,
            MARKER: str(paths / "sprung"),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[1]), str(paths)]),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("command", READERS)
def test_classes_that_a_study_names_are_not_imported(received: Path, tmp_path: Path, command: str) -> None:
    for folder in (tmp_path, received):
        (folder / "trap.py").write_text(TRAP)
    task = {
        "model": {"class_path": "trap.Model"},
        "data": {"class_path": "trap.Data"},
        "trainer": {"callbacks": [{"class_path": "trap.Model"}]},
        "import_paths": [".", str(received)],
    }
    edit(received / "plan.json", lambda plan: plan["recipe"].update(task={**plan["recipe"]["task"], **task}))
    edit(received / "plan.json", lambda plan: plan.update(root=str(received)))
    (received / "recipe.yaml").write_text("!!python/object/apply:trap.Model []\n")
    for spec in received.glob("trials/*/spec.json"):
        edit(spec, lambda plain: plain["task"].update(task))
    answer = lrscale(command, str(received), paths=tmp_path)
    assert answer.returncode in (0, 1, 2), answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "sprung").exists()


def test_names_and_messages_of_a_study_are_text_in_its_report(received: Path, tmp_path: Path) -> None:
    for path in received.glob("trials/*/record.json"):
        edit(
            path,
            lambda plain: plain.update(
                reason=SCRIPT, warnings=[SCRIPT], log_tail=[SCRIPT], monitor=SCRIPT, environment={SCRIPT: SCRIPT}
            ),
        )
    answer = lrscale("report", str(received), paths=tmp_path)
    assert answer.returncode == 0, answer.stderr
    page = (received / "report.html").read_text()
    assert "alert(" in page
    assert "<script>alert(" not in page


@pytest.mark.parametrize("trial_id", ["../../../outside", "..", "/etc", "a/b", ""])
def test_an_id_that_leads_out_of_the_folder_is_refused(received: Path, trial_id: str) -> None:
    record = next(iter(sorted(received.glob("trials/*/record.json"))))
    edit(record, lambda plain: plain.update(trial_id=trial_id))
    with pytest.raises(StudyError, match=f"is the record of another trial, {re.escape(repr(trial_id))}"):
        StudyView.of(StudyFolder(received))
    with pytest.raises(StudyError, match="is no trial of"):
        StudyFolder(received).trajectory(trial_id)


def test_a_recipe_that_cannot_be_read_is_named(received: Path, tmp_path: Path) -> None:
    edit(received / "plan.json", lambda plan: plan["recipe"].update(name=SCRIPT))
    answer = lrscale("report", str(received), paths=tmp_path)
    assert answer.returncode == 2
    assert "the recipe in plan.json cannot be used: name must be of letters" in " ".join(answer.stderr.split())


@pytest.mark.parametrize("place", ["config", "checkpoint"])
def test_a_device_that_a_study_names_is_not_read(received: Path, tmp_path: Path, place: str) -> None:
    def change(plan: dict[str, Any]) -> None:
        recipe = plan["recipe"]
        if place == "config":
            recipe["task"] = {"config": "/dev/zero", "config_sha256": "0" * 64}
        else:
            recipe["experiments"]["range_test"] = {"checkpoint": "/dev/zero"}

    edit(received / "plan.json", change)
    answer = lrscale("report", str(received), paths=tmp_path)
    assert answer.returncode in (0, 2), answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_link_in_the_place_of_the_report_is_replaced_and_not_followed(received: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("keep")
    (received / "report.html").unlink(missing_ok=True)
    (received / "fits.json").unlink(missing_ok=True)
    (received / "report.html").symlink_to(mine)
    (received / "fits.json").symlink_to(mine)
    (received / ".lock").unlink(missing_ok=True)
    (received / ".lock").symlink_to(mine)
    for command in ("report", "fit"):
        lrscale(command, str(received), paths=tmp_path)
    assert mine.read_text() == "keep"
