"""Studies below torchrun: the ranks that it gives train what the local launcher trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lrscale.launch.devices import free_port

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
