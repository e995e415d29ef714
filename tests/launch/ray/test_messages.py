"""What is said when Ray, or the folder that all nodes share, is not there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lrscale import __version__
from lrscale.errors import LrscaleError, StudyError
from lrscale.launch import LAUNCHERS, LaunchSettings
from lrscale.launch.ray import shared_folder
from lrscale.launch.ray.cluster import Cluster


def test_without_the_package_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LrscaleError) as caught, LAUNCHERS["ray"](LaunchSettings(root=tmp_path)):
        pass
    assert (
        str(caught.value)
        == 'the launcher ray needs the package ray, which is not installed; pip install "lrscale[ray]"'
    )


@pytest.mark.parametrize(
    ("address", "variable", "joined"),
    [(None, None, "local"), (None, "10.0.0.1:6379", "10.0.0.1:6379"), ("auto", "10.0.0.1:6379", "auto")],
)
def test_a_cluster_that_happens_to_run_on_the_machine_is_not_joined_unasked(
    address: str | None, variable: str | None, joined: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    fake = SimpleNamespace(is_initialized=lambda: False, init=lambda address, **_: asked.append(address))
    monkeypatch.setattr("lrscale.launch.ray.cluster.require_ray", lambda _what: fake)
    monkeypatch.setattr("lrscale.launch.ray.cluster.keep_off_the_terminal", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    Cluster(address).connect()
    assert asked == [joined]


def test_a_probe_is_seen_only_where_it_lies(tmp_path: Path) -> None:
    probe = tmp_path / ".probe-1"
    assert shared_folder.look_for(str(probe)) == {"seen": False, "version": __version__}
    probe.write_text(".probe-0")
    assert not shared_folder.look_for(str(probe))["seen"]
    probe.write_text(".probe-1")
    assert shared_folder.look_for(str(probe))["seen"]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            [("n1", {"seen": True}), ("n2", {"seen": False})],
            "n2 does not see the study folder S; put it, with --study, on a file system that all nodes mount at the "
            "same path",
        ),
        ([("n1", {"seen": False}), ("n2", {"seen": False})], "n1, n2 do not see the study folder"),
        (
            [("n1", {"seen": False, "error": "No module named 'lrscale'"})],
            "node n1 cannot run lrscale: No module named",
        ),
    ],
)
def test_a_folder_that_not_all_nodes_see_is_refused(answers: list[tuple[str, dict[str, Any]]], words: str) -> None:
    with pytest.raises(StudyError) as caught:
        shared_folder.refuse(Path("S"), answers)
    assert str(caught.value).startswith(words)
