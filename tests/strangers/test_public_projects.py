"""Public Lightning projects train unmodified: a range-test ramp and a short trial of each.

They are installed with ``pip install -c constraints.txt -e '.[test,strangers]'``.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from lrscale_test_trials import Ran, Trials, make_spec

from lrscale.units import Layout

pytestmark = [pytest.mark.strangers, pytest.mark.slow]

PROJECTS = {
    "chemprop": ("chemprop_mpnn", "val_loss", "lightning.pytorch", "examples"),
    "scvi": ("scvi_vae", None, "lightning.pytorch", "examples"),
    "neuralforecast": ("neuralforecast_nhits", "ptl/val_loss", "pytorch_lightning", "examples"),
}
ONE, TWO = Layout(per_device_batch_size=16), Layout(per_device_batch_size=8, devices=2)


@pytest.fixture(params=sorted(PROJECTS))
def project(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed; the `strangers` extra has it")
    return name


def task_of(project: str) -> dict[str, Any]:
    factory, monitor, _, _ = PROJECTS[project]
    # Its encoder of the library size takes no part in the loss, which DDP must be told.
    trainer = {"strategy": "ddp_find_unused_parameters_true"} if project == "scvi" else {}
    task: dict[str, Any] = {"factory": f"public_projects.{factory}", "trainer": trainer}
    return task | ({"monitor": monitor} if monitor else {})


def train(trials: Trials, project: str, layout: Layout, **changed: Any) -> Ran:
    settings: dict[str, Any] = {"batch": 16, "horizon": 60, "lr": 3e-3, "schedule": "cosine", "every": 30, **changed}
    return trials.one(make_spec(task_of(project), **settings), layout)


def test_a_short_trial_learns_on_one_rank_and_on_two(trials: Trials, project: str) -> None:
    _, monitor, flavour, source = PROJECTS[project]
    one, two = train(trials, project, ONE), train(trials, project, TWO)
    for ran in (one, two):
        assert ran.record.status == "completed", (ran.record.reason, ran.record.log_tail)
        assert ran.record.facts["flavour"] == flavour
        assert ran.record.facts["data_source"] == source
        assert ran.record.monitor == (monitor or ran.record.monitor)
        assert ran.validation_steps == [30, 60]
        assert np.isfinite(ran.record.final_loss)
        assert len(ran.train_losses) == 60
        assert np.mean(ran.train_losses[-10:]) < np.mean(ran.train_losses[:10])
        assert not ran.warned("same first batch")


def test_a_ramp_runs_into_divergence_or_to_its_end(trials: Trials, project: str) -> None:
    ran = train(trials, project, ONE, schedule="ramp", lr=10.0, horizon=80, every=None)
    assert ran.record.status in ("diverged", "completed"), ran.record.reason
    assert len(ran.train_losses) >= 40
    factors = np.array(ran.lrs) / 10.0
    assert (np.diff(np.log(factors)) > 0).all()
    losses = np.array(ran.train_losses)
    assert losses[np.isfinite(losses)].min() < losses[:5].mean()


def test_a_schedule_of_the_projects_own_is_led_to_the_peak(trials: Trials) -> None:
    if importlib.util.find_spec("chemprop") is None:
        pytest.skip("chemprop is not installed; the `strangers` extra has it")
    ran = train(trials, "chemprop", ONE, schedule="module", horizon=64)
    assert ran.record.status == "completed"
    # Noam: up from a tenth over two epochs of 8 batches, and down to a tenth.
    assert ran.lrs[0] == pytest.approx(3e-4, rel=1e-6)
    assert max(ran.lrs) == pytest.approx(3e-3, rel=1e-6)
    assert ran.lrs.index(max(ran.lrs)) == 16
    assert ran.lrs[-1] == pytest.approx(3e-4, rel=0.1)


def test_a_trial_repeats_itself_to_the_last_bit(trials: Trials, project: str) -> None:
    first, second = (train(trials, project, ONE, horizon=15, every=0) for _ in range(2))
    assert first.train_losses == second.train_losses
    assert first.record.final_loss == second.record.final_loss
