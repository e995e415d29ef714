"""Studies below torchrun: the ranks that it gives train what the local launcher trains."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from lrscale.cli.request import StudyRequest
from lrscale.errors import LayoutError
from lrscale.launch.devices import cpu_count, free_port

SHORT = """
name: short
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 16, depth: 1, optimizer: sgd}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
experiments:
  equivalence: null
  range_test: {seeds: 1, steps: 12, lr_min: 1e-4, lr_max: 100.0, confirm: false}
"""


def torchrun(
    folder: Path, environment: dict[str, str], *arguments: str, nodes: int = 1, per_node: int = 2
) -> list[subprocess.Popen[str]]:
    """Start an agent for each node, as people do; `lrscale` is the module that it runs."""
    port = free_port()
    agents = []
    for node in range(nodes):
        where = ["--nnodes", str(nodes), "--node-rank", str(node), "--master-addr", "127.0.0.1"]
        where += ["--master-port", str(port), "--nproc-per-node", str(per_node)]
        agents.append(
            subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *where, "-m", "lrscale", *arguments],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return agents


def records(study: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in study.glob("trials/*/record.json")}


def test_trials_at_once_are_a_number_before_anybody_plans_with_it(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(SHORT)
    request = StudyRequest(
        command="run",
        recipe=str(tmp_path / "short.yaml"),
        overrides=("layout.trials_at_once=auto", "layout.accelerator=cpu"),
        devices=2,
    )
    recipe, _ = request.load()
    assert recipe.layout.trials_at_once == recipe.layout.at_once == max(1, cpu_count() // 2)
    with pytest.raises(LayoutError, match="the ray launcher takes a number"):
        dataclasses.replace(request, launcher="ray").load()


def test_two_ranks_of_torchrun_run_a_study_and_one_of_them_speaks(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "short.yaml").write_text(SHORT)
    (agent,) = torchrun(tmp_path, environment, "range-test", "short.yaml", "--study", "study")
    out, err = agent.communicate(timeout=180)
    # Twelve steps of one trial may find no bracket; the other rank ends with the code of the first either way.
    assert agent.returncode in (0, 1), err
    assert out.count("1 trial run, 0 reused") == 1
    assert err.count("range_test 1/1") == 1
    (record,) = records(tmp_path / "study").values()
    assert record["layout"]["devices"] == 2
    assert record["environment"]["world_size"] == 2


@pytest.mark.slow
def test_two_nodes_of_two_ranks_find_what_this_machine_finds(
    tmp_path: Path, tiny: str, environment: dict[str, str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    command = [sys.executable, "-m", "lrscale", "run", "tiny.yaml", "--study", "local", "--devices", "2"]
    local = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert local.returncode == 0, local.stderr
    agents = torchrun(tmp_path, environment, "run", "tiny.yaml", "--study", "nodes", nodes=2)
    outputs = [agent.communicate(timeout=300) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert outputs[1][0] == ""
    here, there = records(tmp_path / "local"), records(tmp_path / "nodes")
    assert here.keys() == there.keys()
    assert {one["status"] for one in there.values()} == {one["status"] for one in here.values()}
    for trial_id, record in here.items():
        assert there[trial_id]["status"] == record["status"]
        for name in ("final_loss", "best_loss", "initial_loss", "final_train_loss"):
            if record[name] is None:
                assert there[trial_id][name] is None
                continue
            assert there[trial_id][name] == pytest.approx(record[name], rel=2e-5), (trial_id, name)
    spread = [one["layout"] for one in there.values() if one["layout"]["num_nodes"] == 2]
    assert {layout["devices"] for layout in spread} == {2}
    assert len(spread) >= 7
    answers = [json.loads((tmp_path / name / "findings.json").read_text()) for name in ("local", "nodes")]
    best = [answer["scaling"]["data"]["cells"][0]["slice"]["best_lr"] for answer in answers]
    assert best[1] == pytest.approx(best[0], rel=1e-3)


@pytest.mark.slow
def test_a_layout_that_the_recipe_states_stays_and_one_that_does_not_fit_is_refused(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "short.yaml").write_text(SHORT)
    command = ("range-test", "short.yaml", "--study", "study", "--devices")
    (agent,) = torchrun(tmp_path, environment, *command, "1")
    _, err = agent.communicate(timeout=180)
    assert agent.returncode in (0, 1), err
    (record,) = records(tmp_path / "study").values()
    assert record["layout"]["devices"] == 1
    (agent,) = torchrun(tmp_path, environment, "range-test", "short.yaml", "--study", "other", "--devices", "4")
    _, err = agent.communicate(timeout=180)
    assert agent.returncode != 0
    assert err.count("error: a trial of 4 devices does not fit the ranks that were given: 2 on node 0 (") == 1
    assert "hint: set layout.devices and layout.num_nodes to what was given, or start more ranks" in err


@pytest.mark.slow
def test_a_recipe_that_is_wrong_is_told_once_and_ends_all(tmp_path: Path, environment: dict[str, str]) -> None:
    (agent,) = torchrun(tmp_path, environment, "run", "absent.yaml")
    out, err = agent.communicate(timeout=180)
    assert agent.returncode != 0
    assert (out + err).count("error: ") == 1


def members(study: Path) -> list[psutil.Process]:
    """Return the processes that name a study, torchrun's agents left out, and everything below them."""
    found = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if str(study) in words and "torch.distributed.run" not in words:
                found |= {one.pid: one for one in (process, *process.children(recursive=True))}
        except psutil.Error:
            continue
    return list(found.values())


def leader(study: Path) -> psutil.Process | None:
    for process in members(study):
        try:
            if process.environ().get("RANK") == "0" and str(study) in process.cmdline():
                return process
        except psutil.Error:
            continue
    return None


def begun(folder: Path, environment: dict[str, str], study: Path, *, num_nodes: int) -> list[subprocess.Popen[str]]:
    """Start a study on two nodes of one rank each, and wait for its first records."""
    command = ("run", "tiny.yaml", "--study", str(study), "--num-nodes", str(num_nodes))
    agents = torchrun(folder, environment, *command, nodes=2, per_node=1)
    deadline = time.monotonic() + 240
    while len(records(study)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return agents


def assert_gone(processes: list[psutil.Process]) -> None:
    gone_by = time.monotonic() + 30
    while left := [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < gone_by, left
        time.sleep(0.1)


@pytest.mark.slow
def test_a_leader_that_is_killed_leaves_nothing_on_any_node_and_the_same_command_goes_on(
    tmp_path: Path, tiny: str, environment: dict[str, str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    study = tmp_path / "study"
    agents = begun(tmp_path, environment, study, num_nodes=2)
    there, victim = members(study), leader(study)
    assert victim is not None
    assert len(there) > 4
    victim.kill()
    outputs = [agent.communicate(timeout=120) for agent in agents]
    before = {trial_id: path_text(study, trial_id) for trial_id in records(study)}
    assert agents[0].returncode != 0, outputs
    assert_gone(there)
    agents = torchrun(tmp_path, environment, "run", "tiny.yaml", "--study", str(study), nodes=2, per_node=1)
    outputs = [agent.communicate(timeout=300) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert {trial_id: path_text(study, trial_id) for trial_id in before} == before
    assert {record["status"] for record in records(study).values()} <= {"completed", "diverged"}


@pytest.mark.slow
def test_a_study_is_finished_on_the_node_that_is_left(tmp_path: Path, tiny: str, environment: dict[str, str]) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    study = tmp_path / "study"
    agents = begun(tmp_path, environment, study, num_nodes=1)
    try:
        there = members(study)
        for process in there:
            if process.ppid() == agents[1].pid:
                process.kill()
        agents[1].kill()
        deadline = time.monotonic() + 240
        while not (study / "report.html").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert_gone(there)
    finally:
        # The agent that is left waits five minutes for the other one, whatever its own worker has to say.
        for agent in agents:
            agent.kill()
    outputs = [agent.communicate(timeout=60) for agent in agents]
    assert "is lost: its connection closed; trials go on without it" in outputs[0][1]
    assert {record["status"] for record in records(study).values()} <= {"completed", "diverged"}


def path_text(study: Path, trial_id: str) -> str:
    return (study / "trials" / trial_id / "record.json").read_text()
