"""Studies on a GPU: memory that really runs out, two ranks that share one device, a range test that leaves no trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lrscale.launch import LaunchSettings, LocalLauncher, SilentProgress
from lrscale.launch.devices import free_port
from lrscale.recipe import Recipe
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study
from lrscale.tune import range_test
from lrscale.zoo import Digits, DigitsMLP

pytestmark = pytest.mark.gpu

HERE = Path(__file__).resolve().parent
GIBIBYTE = 2**30


def used() -> int:
    free, total = torch.cuda.mem_get_info()
    return total - free


@pytest.mark.parametrize("place", ["backward", "validation"])
def test_the_largest_batch_is_the_one_that_fits_and_memory_is_given_back(tmp_path: Path, place: str) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "hoarder",
            "task": {
                "model": {"class_path": "gpu_modules.Hoarder", "init_args": {"place": place}},
                "data": {"class_path": "gpu_modules.Points"},
                "monitor": "val_loss",
            },
            "layout": {"devices": 1, "accelerator": "gpu"},
            "experiments": {
                "memory": {"start": 4, "margin": 0, "steps": 2},
                "range_test": None,
                "equivalence": None,
            },
        }
    )
    before = used()
    settings = LaunchSettings(root=HERE, preload=("gpu_modules",), accelerator="gpu")
    study = StudyFolder(tmp_path)
    with LocalLauncher(settings) as launcher:
        outcome = Study(recipe, study).run(launcher, experiments=["memory"], progress=SilentProgress())
        # The server holds no memory of the device, and each probe has given back what it had.
        assert used() <= before + GIBIBYTE // 4
    (finding,) = outcome.findings
    trials = {
        trial.spec.layout.per_device_batch_size: trial.record for trial in StudyView.of(study) if trial.spec.layout
    }
    largest = int(finding.numbers["max_per_device_batch_size"].value)
    room = torch.cuda.get_device_properties(0).total_memory / GIBIBYTE
    # One gibibyte an example, and at most three for the context, its libraries and a fragment that is left.
    assert room - 4 <= largest <= room
    assert trials[largest].status == "completed"
    ended = {size: record.status for size, record in trials.items()}
    assert all(status == ("completed" if size <= largest else "out_of_memory") for size, status in ended.items()), ended
    assert outcome.failed == 0
    assert trials[largest].measurements["memory"]["kind"] == "cuda"
    assert trials[largest].measurements["memory"]["allocated"] == pytest.approx(largest * GIBIBYTE, rel=0.02)


def test_two_ranks_share_one_gpu_through_gloo(tmp_path: Path) -> None:
    strategy = {
        "class_path": "pytorch_lightning.strategies.DDPStrategy",
        "init_args": {"process_group_backend": "gloo"},
    }
    model = {"class_path": "gpu_modules.Told", "init_args": {"place": str(tmp_path), "width": 64}}
    recipe = {
        "name": "two",
        "task": {
            "model": model,
            "data": {"class_path": "lrscale.zoo.Digits"},
            "trainer": {"strategy": strategy},
            "monitor": "val_loss",
        },
        "layout": {"accelerator": "gpu", "devices": 1},
        "experiments": {"range_test": {"seeds": 1, "confirm": False}, "equivalence": None, "noise_scale": {}},
    }
    path = tmp_path / "two.yaml"
    path.write_text(json.dumps(recipe))
    paths = [str(HERE), str(HERE.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def run(study: str, *others: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "lrscale", "range-test", str(path), "--study", str(tmp_path / study), *others],
            env={**environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    alone = run("alone")
    out, err = alone.communicate(timeout=200)
    assert alone.returncode == 0, out + err
    # What torchrun would tell an agent's only worker on each of two nodes, which are one machine with one GPU.
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "shared",
    }
    members = [run("pair", "--num-nodes", "2", RANK=str(rank), GROUP_RANK=str(rank), **shared) for rank in range(2)]
    told = [member.communicate(timeout=200) for member in members]
    assert [member.returncode for member in members] == [0, 0], told
    facts = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert facts == 2 * [{"device": "cuda:0", "world_size": 2, "backend": "gloo"}]
    one, two = (curve(tmp_path / study) for study in ("alone", "pair"))
    assert two == pytest.approx(one, rel=1e-3)


def curve(study: Path) -> list[float]:
    (trial,) = StudyView.of(StudyFolder(study))
    losses = StudyFolder(study).trajectory(trial.trial_id).points("train_loss")[1]
    return [float(loss) for loss in losses[:50]]


def test_a_range_test_in_a_notebook_leaves_the_devices_random_state() -> None:
    trainer = pl.Trainer(accelerator="gpu", devices=1, logger=False, precision="bf16-mixed", enable_checkpointing=False)
    model = DigitsMLP(dropout=0.1)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state(), torch.get_rng_state()
    settings: dict[str, Any] = {"seeds": 1, "steps": 60, "confirm": False}
    found = range_test(model, Digits(), trainer=trainer, **settings)
    assert len(found.families[0].curves[0].lr) > 30
    assert torch.equal(torch.cuda.get_rng_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert next(model.parameters()).device.type == "cpu"
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
