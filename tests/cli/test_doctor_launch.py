"""Rehearsals of every launcher that this machine can start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lrscale.cli import doctor_launch
from lrscale.cli.doctor_checks import Check


@pytest.mark.slow
def test_two_nodes_on_loopback_train_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check = doctor_launch.check_nodes()
    assert check.status == "PASS", check
    assert check.sentence.startswith("2 nodes x 1 rank on CPU (gloo) trained 4 steps together in ")
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_that_fails_says_what_it_said(tmp_path: Path) -> None:
    script = "import sys; print('FAIL     group: it broke'); print('error: all is lost', file=sys.stderr); sys.exit(1)"
    check = doctor_launch._run("torchrun", [sys.executable, "-c", script], [{}])
    assert check == Check(
        name="torchrun",
        status="FAIL",
        sentence="FAIL group: it broke; error: all is lost",
        remedy="trials would fail like this below torchrun",
    )


def test_a_rehearsal_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_launch, "GROUP_TIMEOUT", 1.0)
    check = doctor_launch._run("nodes", [sys.executable, "-c", "import time; time.sleep(600)"], [{}, {}])
    assert (check.status, check.sentence) == ("FAIL", "no answer within 1 s")


def test_what_is_not_there_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for check in (doctor_launch.check_torchrun(), doctor_launch.check_slurm(), doctor_launch.check_ray()):
        assert check.status == "INFO"
