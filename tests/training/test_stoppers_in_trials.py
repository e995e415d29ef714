"""A stopper ends a trial inside of it: at a validation, on every rank, and as a status with a reason."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from lrscale_test_trials import Ran, Trials, make_spec

from lrscale.stoppers import Bound, stopper_settings
from lrscale.store import TrialSpec
from lrscale.units import Layout

ONE = Layout(per_device_batch_size=8)
TWO = Layout(per_device_batch_size=4, devices=2)
HORIZON = 20


def bounded(spec: TrialSpec, name: str, **bounds: float) -> TrialSpec:
    """Return a trial that ends where its loss is above some bounds, given as ``step_5=0.1``."""
    among = {int(step.removeprefix("step_")): Bound(loss=loss, among=4) for step, loss in bounds.items()}
    return dataclasses.replace(spec, stopper=stopper_settings(name, among))


def plain_spec(**changed: Any) -> TrialSpec:
    return make_spec(horizon=HORIZON, every=5, schedule="cosine", **changed)


@pytest.fixture(scope="module")
def whole(trials: Trials) -> Ran:
    """The trial without a stopper."""
    return trials.one(plain_spec())


@pytest.mark.parametrize("layout", [ONE, TWO])
def test_a_trial_above_its_bound_ends_on_all_ranks_at_that_step(trials: Trials, whole: Ran, layout: Layout) -> None:
    losses = dict(zip(*whole.trajectory.points("val_loss"), strict=True))
    (ran,) = trials.run((bounded(plain_spec(), "median", step_5=1e9, step_10=losses[10] * 0.9), layout))
    assert ran.record.status == "stopped"
    assert ran.record.steps == 10
    assert ran.record.examples == 80
    assert ran.record.final_loss is None
    assert not ran.record.retryable
    assert ran.record.reason is not None
    assert ran.record.reason.startswith("stopped at 50 % of the horizon: loss ")
    found = ran.record.ended_by_stopper
    assert found is not None
    assert (found["step"], found["share"], found["among"]) == (10, 0.5, 4)
    assert found["loss"] == pytest.approx(min(losses[5], losses[10]), rel=1e-6)
    # Every rank has published its outcome, and all of them the same ending.
    outcomes = [json.loads(path.read_text()) for path in sorted(ran.folder.glob("outcome-*.json"))]
    endings = {(one["kind"], one["fields"]["status"], one["fields"]["steps"]) for one in outcomes}
    assert endings == {("result", "stopped", 10)}
    assert len(outcomes) == layout.devices


def test_up_to_its_end_a_stopped_trial_is_the_trial_without_a_stopper(trials: Trials, whole: Ran) -> None:
    (ran,) = trials.run((bounded(plain_spec(), "successive_halving", step_15=-1.0), ONE))
    assert ran.record.status == "stopped"
    assert ran.train_losses == whole.train_losses[:15]
    # The schedule is that of the full horizon.
    assert ran.lrs == whole.lrs[:15]


def test_a_trial_within_its_bounds_ends_with_the_loss_of_the_trial_without_a_stopper(
    trials: Trials, whole: Ran
) -> None:
    (ran,) = trials.run((bounded(plain_spec(), "hyperband", step_5=1e9), ONE))
    assert ran.record.status == "completed"
    assert ran.record.ended_by_stopper is None
    assert ran.record.final_loss == whole.record.final_loss
    assert ran.spec.trial_id != whole.spec.trial_id


def test_divergence_comes_before_a_bound(trials: Trials) -> None:
    (ran,) = trials.run((bounded(plain_spec(lr=1e9), "median", step_5=-1.0), ONE))
    assert ran.record.status == "diverged"
    assert ran.record.ended_by_stopper is None


def test_a_stopper_that_is_decided_elsewhere_ends_nothing_here(trials: Trials, whole: Ran) -> None:
    (ran,) = trials.run((dataclasses.replace(plain_spec(), stopper={"name": "elsewhere"}), ONE))
    assert ran.record.status == "completed"
    assert ran.record.final_loss == whole.record.final_loss
