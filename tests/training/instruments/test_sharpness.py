"""The margin along the real updates of real trials, where the loss is a quadratic and everything is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lrscale_test_trials import Ran, Trials, as_layouts, make_spec, make_task
from trial_modules import points

from lrscale.errors import LrscaleError
from lrscale.laws.stability import SharpnessCourse, SharpnessStatus
from lrscale.training.instruments import SharpnessInstrument
from lrscale.units import Layout

EVERY_STEP = {"sharpness": {"every": 1}}
SIZE = 64
MOMENTUM = 0.5
"""Of the module's SGD."""


def measured(ran: Ran) -> SharpnessCourse:
    assert ran.record.status == "completed", ran.record.reason
    return SharpnessCourse.from_dict(ran.record.measurements["sharpness"])


def heavy_ball(lrs: list[float], momentum: float) -> list[float]:
    """Return the critical multiples of heavy-ball steps from 0 on the whole data set: ``2 g.u / u.H.u``."""
    inputs, targets, _ = (part.double().numpy() for part in points())
    hessian, linear = 2 * inputs.T @ inputs / SIZE, 2 * inputs.T @ targets / SIZE
    weights, velocity, found = np.zeros(inputs.shape[1]), np.zeros(inputs.shape[1]), []
    for lr in lrs:
        gradient = hessian @ weights - linear
        velocity = momentum * velocity + gradient
        update = lr * velocity
        found.append(float(2 * gradient @ update / (update @ hessian @ update)))
        weights = weights - update
    return found


@pytest.mark.parametrize(("label", "layout"), as_layouts(SIZE))
def test_the_margin_of_heavy_ball_steps_is_the_closed_form_for_every_layout(
    trials: Trials, label: str, layout: Layout
) -> None:
    del label
    spec = make_spec(batch=SIZE, horizon=6, lr=0.08, schedule="linear")
    found = measured(trials.one(spec, layout, instruments=EVERY_STEP))
    assert [point.step for point in found.points] == [1, 2, 3, 4, 5, 6]
    lrs = [point.lr for point in found.points]
    assert lrs == pytest.approx([0.08 * (1 - step / 6) for step in range(6)], rel=0.2)
    expected = heavy_ball(lrs, MOMENTUM)
    # Losses are 32-bit numbers of about 1 and fall by about 0.1 a step.
    assert [point.margin for point in found.points] == pytest.approx(expected, rel=1e-3)
    assert [point.bound for point in found.points] == [None] * 6
    # The first step is plain gradient descent: 2 / lambda along the gradient.
    assert found.points[0].critical_lr == pytest.approx(expected[0] * lrs[0], rel=1e-3)


def test_clipping_and_other_ratios_are_part_of_the_update(trials: Trials) -> None:
    task = make_task(trainer={"gradient_clip_val": 0.01})
    clipped = measured(trials.one(make_spec(task, batch=SIZE, horizon=1), instruments=EVERY_STEP))
    free = measured(trials.one(make_spec(batch=SIZE, horizon=1), instruments=EVERY_STEP))
    norm = float(np.linalg.norm(2 * points()[0].numpy().T @ points()[1].numpy() / SIZE))
    # The same direction, shortened to a norm of 0.01: the margin grows by what it was shortened by.
    assert clipped.points[0].margin / free.points[0].margin == pytest.approx(norm / 0.01, rel=1e-3)


def test_an_lr_beyond_the_edge_has_a_margin_below_one_and_the_edge_lies_between(trials: Trials) -> None:
    spec = make_spec(batch=SIZE, horizon=12, lr=8.0, schedule="ramp", settings={"start_factor": 1e-3}, every=None)
    ran = trials.one(spec, instruments=EVERY_STEP)
    found = SharpnessCourse.from_dict(ran.record.measurements["sharpness"])
    assert found.status is SharpnessStatus.CROSSED
    inputs = points()[0].double().numpy()
    curvatures = np.linalg.eigvalsh(2 * inputs.T @ inputs / SIZE)
    # Momentum moves the direction about; the edge still lies near those of plain descent.
    assert found.edge_lr is not None
    assert 0.4 * 2 / curvatures[-1] < found.edge_lr < 2.5 * 2 / curvatures[0]
    assert found.smallest is not None and found.smallest.margin < 1


@pytest.mark.parametrize("layout", [Layout(per_device_batch_size=8), Layout(per_device_batch_size=4, devices=2)])
@pytest.mark.parametrize("module", ["Noisy", "Dropping"])
def test_training_is_the_same_to_the_last_bit(trials: Trials, module: str, layout: Layout) -> None:
    task = make_task(f"trial_modules.{module}", init={"optimizer": "adam"} if module == "Noisy" else {})
    spec = make_spec(task, horizon=24, every=8, lr=0.01)
    plain = trials.one(spec, layout)
    watched = trials.one(spec, layout, instruments={"sharpness": {"every": 5}})
    assert plain.record.status == watched.record.status == "completed"
    assert plain.train_losses == watched.train_losses
    assert plain.record.final_loss == watched.record.final_loss
    assert [point.step for point in measured(watched).points] == [1, 6, 11, 16, 21]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_module_that_cannot_be_called_again_on_one_rank_ends_measuring_and_not_the_trial(
    trials: Trials, rank: int
) -> None:
    task = make_task("trial_modules.OnlyOnce", init={"fails_on": rank, "after": 3})
    layout = Layout(per_device_batch_size=4, devices=2)
    ran = trials.one(make_spec(task, horizon=8), layout, instruments=EVERY_STEP)
    assert ran.record.status == "completed" and len(ran.train_losses) == 8
    assert len(measured(ran).points) == 3
    assert ran.warned("sharpness: measuring ended: training_step fails")


def test_what_cannot_be_measured_says_why(trials: Trials) -> None:
    manual = trials.one(make_spec(make_task("trial_modules.TwoOptimizers"), horizon=3), instruments=EVERY_STEP)
    assert "steps its optimizers itself" in measured(manual).reason
    half = make_spec(make_task(trainer={"precision": "bf16-true"}), horizon=3)
    assert "half precision" in measured(trials.one(half, instruments=EVERY_STEP)).reason
    mixed = make_spec(make_task(trainer={"precision": "bf16-mixed"}), batch=SIZE, horizon=2)
    plain = make_spec(batch=SIZE, horizon=2)
    one, other = (measured(trials.one(spec, instruments=EVERY_STEP)) for spec in (mixed, plain))
    assert one.points[0].margin == pytest.approx(other.points[0].margin, rel=0.02)


@pytest.mark.parametrize("settings", [{"every": 0}, {"evaluations": 1}, {"evaluations": 50}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(LrscaleError, match="sharpness: "):
        SharpnessInstrument(**settings)
