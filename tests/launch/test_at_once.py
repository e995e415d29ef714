"""Devices are places: many small trials at once, or one that takes them all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrscale.errors import LayoutError
from lrscale.launch import LaunchSettings, LocalLauncher, SilentProgress, TrialRequest
from lrscale.launch.at_once import trials_side_by_side
from lrscale.launch.devices import DevicePool, cpu_count
from lrscale.launch.node import Node, lend, room
from lrscale.launch.nodes import detect
from lrscale.launch.processes.forkserver import Forkserver
from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.units import Layout

from .conftest import TASKS

FOUR_NODES = {"RANK": "0", "WORLD_SIZE": "8", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")


@pytest.mark.usefixtures("eight_gpus")
def test_eight_gpus_are_eight_trials_of_one_or_one_of_eight() -> None:
    assert [trials_side_by_side(devices, 1, "auto") for devices in (1, 2, 3, 8, 16)] == [8, 4, 2, 1, 1]
    assert trials_side_by_side(1, 1, "cpu") == cpu_count()


def test_the_ranks_that_were_given_are_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    given = detect(FOUR_NODES)
    assert trials_side_by_side(1, 1, "cpu", allocation=given) == 8
    assert trials_side_by_side(2, 1, "cpu", allocation=given) == 4
    assert trials_side_by_side(2, 2, "cpu", allocation=given) == 2
    one_each = detect({**FOUR_NODES, "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "1"})
    monkeypatch.setattr("lrscale.launch.at_once.cpu_count", lambda: 6)
    assert trials_side_by_side(3, 1, "cpu", allocation=one_each) == 8
    with pytest.raises(LayoutError, match="the slurm launcher takes a number"):
        trials_side_by_side(1, 1, "cpu", launcher="slurm")


def nodes(folder: Path, *places: int) -> list[Node]:
    return [
        Node(
            name=str(number),
            server=Forkserver(folder, (), ()),
            pool=DevicePool("cpu", [str(place) for place in range(count)]),
            cores=count,
            scratch=folder,
        )
        for number, count in enumerate(places)
    ]


@pytest.mark.parametrize(
    ("places", "devices", "num_nodes", "held"),
    [
        ((8,), 3, 1, 2),
        ((2, 2), 1, 1, 4),
        ((2, 2), 2, 2, 1),
        # Two trials over two nodes each need four shares, of which one node cannot have more than a trial's one each.
        ((8, 2, 2), 2, 2, 2),
        ((8, 1), 1, 2, 1),
        ((8, 1), 2, 2, 0),
    ],
)
def test_room_is_what_lending_finds(
    tmp_path: Path, places: tuple[int, ...], devices: int, num_nodes: int, held: int
) -> None:
    there = nodes(tmp_path, *places)
    layout = Layout(per_device_batch_size=1, devices=devices, num_nodes=num_nodes)
    assert room(there, layout) == held
    lent = []
    while (one := lend(there, layout)) is not None:
        assert len({node.name for node, _ in one}) == num_nodes
        assert all(len(names) == devices for _, names in one)
        lent.append(one)
    assert len(lent) == held
    for one in lent:
        for node, names in one:
            node.pool.give_back(names)
    assert room(there, layout) == held


@pytest.mark.usefixtures("eight_gpus")
def test_trials_at_once_have_gpus_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrscale.launch.processes.forkserver.core_modules", lambda: ("json",))
    monkeypatch.setattr("lrscale.launch.processes.group.ENTRY", "node_ranks")

    def request(number: int, devices: int) -> TrialRequest:
        layout = Layout(per_device_batch_size=1, devices=devices)
        schedule = ScheduleSpec(name="constant")
        spec = TrialSpec(task={}, schedule=schedule, peak_lr=1.0, global_batch_size=devices, horizon=1, seed=number)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "acts.json").write_text(json.dumps(["publish:completed"] * devices))
        return TrialRequest(spec=spec, layout=layout, folder=folder)

    settings = LaunchSettings(root=TASKS, accelerator="gpu", trials_at_once=8)
    with LocalLauncher(settings) as launcher:
        records = list(launcher.run([request(number, 1) for number in range(8)], SilentProgress()))
    with LocalLauncher(LaunchSettings(root=TASKS, accelerator="gpu")) as launcher:
        records += launcher.run([request(8, 8)], SilentProgress())
    assert [record.status for record in records] == ["completed"] * 9
    seen = [json.loads((tmp_path / str(number) / "facts-0.json").read_text()) for number in range(9)]
    assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in seen[:8]) == [str(number) for number in range(8)]
    assert seen[8]["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
