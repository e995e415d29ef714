"""The gradient norm of every step of real trials, and the spikes that are found with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lrscale_test_trials import Trials, as_layouts, make_spec, make_task

from lrscale.laws.stability import Spikes, SpikeStatus
from lrscale.units import Layout

RIDING = {"stability": {}}
STEPS = 120
SPIKE = 80


def spike_task(**init: Any) -> dict[str, Any]:
    """Return a module whose gradient is known, thrown out of its minimum once."""
    return make_task("trial_modules.Spiky", init={"at": SPIKE, **init})


@pytest.mark.parametrize(("label", "layout"), as_layouts(8))
def test_a_spike_of_a_trial_is_found_for_every_layout(trials: Trials, label: str, layout: Layout) -> None:
    del label
    ran = trials.one(make_spec(spike_task(), horizon=STEPS, lr=0.1), layout, instruments=RIDING)
    found = Spikes.from_dict(ran.record.measurements["stability"])
    assert found.status is SpikeStatus.OK
    (spike,) = found.spikes
    # The update of this step throws the weights out; the loss of the next one shows it.
    assert spike.step == SPIKE + 1
    assert spike.recovered and found.gradient_seen and found.steps == STEPS


def test_the_gradient_norm_is_that_of_the_whole_batch_before_clipping(trials: Trials) -> None:
    measured = {}
    for label, layout in as_layouts(8):
        task = make_task(trainer={"gradient_clip_val": 0.01})
        ran = trials.one(make_spec(task, horizon=60), layout, instruments=RIDING)
        measured[label] = ran.record.measurements["stability"]
    reference = measured["1 rank"]
    assert reference["gradient_norm_median"] > 0.1  # clipped it would be 0.01
    for one in measured.values():
        for name in ("gradient_norm_median", "gradient_norm_largest"):
            assert one[name] == pytest.approx(reference[name], rel=1e-5)


def test_the_gradient_norm_of_the_first_step_is_the_closed_form(trials: Trials) -> None:
    from trial_modules import points

    inputs, targets, _ = (part.numpy() for part in points())
    size = len(inputs)
    ran = trials.one(make_spec(lr=1e-9, batch=size, horizon=1), instruments=RIDING)
    # Weights begin at 0: the gradient of the mean square is -2 X'y / n.
    expected = np.linalg.norm(2 * inputs.T @ targets / size)
    assert ran.record.measurements["stability"]["gradient_norm_largest"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("layout", [Layout(per_device_batch_size=8), Layout(per_device_batch_size=2, accumulate=4)])
def test_training_is_the_same_to_the_last_bit(trials: Trials, layout: Layout) -> None:
    spec = make_spec(spike_task(), horizon=STEPS, lr=0.1, every=20)
    plain, watched = trials.one(spec, layout), trials.one(spec, layout, instruments=RIDING)
    assert plain.train_losses == watched.train_losses
    assert plain.record.final_loss == watched.record.final_loss
    assert plain.record.measurements == {} and plain.record.warnings == watched.record.warnings


def test_a_trial_that_diverges_keeps_what_was_seen(trials: Trials) -> None:
    task = make_task(init={"fail": ["forward", "nan", 1, 50]})
    layout = Layout(per_device_batch_size=4, devices=2)
    ran = trials.one(make_spec(task, horizon=300), layout, instruments=RIDING)
    assert ran.record.status == "diverged"
    found = Spikes.from_dict(ran.record.measurements["stability"])
    assert (found.steps, found.status) == (50, SpikeStatus.OK)


def test_skipped_batches_leave_a_gap_and_several_optimizers_are_one_gradient(trials: Trials) -> None:
    skips = trials.one(make_spec(make_task("trial_modules.Skips"), horizon=64), instruments=RIDING)
    assert skips.record.status == "completed"
    assert skips.record.measurements["stability"]["steps"] == len(skips.train_losses)
    manual = trials.one(make_spec(make_task("trial_modules.TwoOptimizers"), horizon=12, lr=1e-9), instruments=RIDING)
    plain = trials.one(make_spec(horizon=12, lr=1e-9), instruments=RIDING)
    # Two equal parts whose sum is the weight: each has the gradient that one weight would have.
    ratio = (
        manual.record.measurements["stability"]["gradient_norm_median"]
        / plain.record.measurements["stability"]["gradient_norm_median"]
    )
    assert ratio == pytest.approx(2**0.5, rel=1e-5)
