"""Golden values, and agreement with torch's schedulers step by step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.schedules import (
    SCHEDULES,
    WSD,
    Constant,
    Cosine,
    InverseSqrt,
    Linear,
    OneCycle,
    Ramp,
    Warmup,
    build_schedule,
    schedule_label,
)
from lrscale.schedules.warmup import WARMUP_SHAPES, WarmupShape

STEPS = 40


def torch_course(
    make: Callable[[Any], Any], steps: int = STEPS, lr: float = 1.0, **settings: Any
) -> tuple[list[float], list[float]]:
    """Return torch's LR and momentum at each step, as the optimizer sees them."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9, **settings)
    scheduler = make(optimizer)
    lrs, momenta = [], []
    for step in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return lrs, momenta


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
def test_cosine_is_torchs_cosine_annealing(final: float) -> None:
    from torch.optim.lr_scheduler import CosineAnnealingLR

    lrs, _ = torch_course(lambda optimizer: CosineAnnealingLR(optimizer, T_max=STEPS, eta_min=final))
    ours = [Cosine(final_factor=final).factor(step, STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(lrs, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("final", [0.0, 0.25])
def test_linear_is_torchs_linear(final: float) -> None:
    from torch.optim.lr_scheduler import LinearLR

    lrs, _ = torch_course(lambda optimizer: LinearLR(optimizer, start_factor=1.0, end_factor=final, total_iters=STEPS))
    ours = [Linear(final_factor=final).factor(step, STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(lrs, rel=1e-9, abs=1e-12)


def test_constant_is_torchs_constant() -> None:
    from torch.optim.lr_scheduler import ConstantLR

    lrs, _ = torch_course(lambda optimizer: ConstantLR(optimizer, factor=1.0))
    assert [Constant().factor(step, STEPS) for step in range(STEPS)] == lrs


# torch divides by a rise of pct_start * total_steps - 1 steps, so that this must not be 0.
@pytest.mark.parametrize(
    ("steps", "rise"),
    [(steps, rise) for steps in (2, 3, 4, 10, 40, 1000) for rise in (0.1, 0.3, 0.5) if rise * steps != 1],
)
def test_one_cycle_is_torchs_one_cycle_in_lr_and_momentum(steps: int, rise: float) -> None:
    from torch.optim.lr_scheduler import OneCycleLR

    lrs, momenta = torch_course(
        lambda optimizer: OneCycleLR(optimizer, max_lr=1.0, total_steps=steps, pct_start=rise), steps
    )
    schedule = OneCycle(rise_fraction=rise)
    assert [schedule.factor(step, steps) for step in range(steps)] == pytest.approx(lrs, rel=1e-9, abs=1e-12)
    assert [schedule.momentum(step, steps) for step in range(steps)] == pytest.approx(momenta, rel=1e-9)


def test_one_cycle_takes_torchs_settings() -> None:
    from torch.optim.lr_scheduler import OneCycleLR

    lrs, momenta = torch_course(
        lambda optimizer: OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=STEPS,
            div_factor=5,
            final_div_factor=50,
            base_momentum=0.5,
            max_momentum=0.7,
        )
    )
    schedule = OneCycle(start_divisor=5, final_divisor=50, base_momentum=0.5, max_momentum=0.7)
    assert [schedule.factor(step, STEPS) for step in range(STEPS)] == pytest.approx(lrs, rel=1e-9)
    assert [schedule.momentum(step, STEPS) for step in range(STEPS)] == pytest.approx(momenta, rel=1e-9)
    assert OneCycle(cycle_momentum=False).momentum(3, STEPS) is None


@given(st.integers(1, 50), st.integers(1, 500))
def test_warm_up_and_decay_compose_as_in_torchs_sequential(steps: int, rest: int) -> None:
    # A rise of (t + 1) / w, then a cosine over the rest: each part is what it is alone.
    schedule = Warmup(steps=steps, then=Cosine())
    horizon = steps + rest
    for position in range(horizon):
        alone = (position + 1) / steps if position < steps else Cosine().factor(position - steps, rest)
        assert schedule.factor(position, horizon) == alone


def test_warm_up_is_torchs_linear_rise() -> None:
    from torch.optim.lr_scheduler import LinearLR, SequentialLR

    def make(optimizer: Any) -> Any:
        rise = LinearLR(optimizer, start_factor=0.1, end_factor=1.0, total_iters=9)
        fall = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=STEPS - 10)
        return SequentialLR(optimizer, [rise, fall], milestones=[10])

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own step() with a deprecated argument
        lrs, _ = torch_course(make)
    ours = [Warmup(steps=10, then=Linear()).factor(step, STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(lrs, rel=1e-6, abs=1e-9)


def test_inverse_square_root_behind_warm_up_is_the_transformers() -> None:
    # Vaswani et al. 2017, equation 3, relative to its peak at t = w: min(t / w, sqrt(w / t)), t counted from 1.
    warmup, horizon = 20, 420
    schedule = Warmup(steps=warmup, then=InverseSqrt(timescale_fraction=warmup / (horizon - warmup)))
    for t in range(1, horizon + 1):
        expected = min(t / warmup, math.sqrt(warmup / t))
        # Behind the warm-up the time scale counts from t = w + 1, half a step is 2.5 % at w = 20.
        assert schedule.factor(t - 1, horizon) == pytest.approx(expected, rel=0.026)


@pytest.mark.parametrize(("position", "factor"), [(0, 1.0), (75, 0.5), (200, 1 / 3)])
def test_inverse_square_root_follows_its_formula(position: int, factor: float) -> None:
    assert InverseSqrt(timescale_fraction=0.25).factor(position, horizon=100) == pytest.approx(factor)


@pytest.mark.parametrize(("decay", "half"), [("linear", 0.5), ("one_minus_sqrt", 1 - math.sqrt(0.5)), ("cosine", 0.5)])
def test_wsd_holds_and_decays(decay: Any, half: float) -> None:
    schedule = WSD(decay_fraction=0.2, decay=decay)
    assert [schedule.factor(step, 100) for step in (0, 50, 79, 80)] == [1.0, 1.0, 1.0, 1.0]
    assert schedule.factor(90, 100) == pytest.approx(half)
    assert WSD(decay_fraction=0.2, final_factor=0.1, decay=decay).factor(100, 100) == pytest.approx(0.1)


def test_means_over_the_horizon_are_those_of_the_formulas() -> None:
    steps = 100_000

    def mean(name: str, **settings: Any) -> float:
        schedule = build_schedule(name, settings)
        return sum(schedule.factor(step, steps) for step in range(steps)) / steps

    # Integrals of the shapes: 1/2, 1/2, 1 - c/2 and 1 - 2c/3 for a decay over the share c.
    assert mean("linear") == pytest.approx(0.5, abs=1e-4)
    assert mean("cosine") == pytest.approx(0.5, abs=1e-4)
    assert mean("wsd", decay_fraction=0.2) == pytest.approx(0.9, abs=1e-4)
    assert mean("wsd", decay_fraction=0.2, decay="one_minus_sqrt") == pytest.approx(1 - 0.4 / 3, abs=1e-4)


@pytest.mark.parametrize("hold", [1, 4, 7])
def test_a_ramp_multiplies_by_one_ratio_and_ends_at_the_peak(hold: int) -> None:
    schedule, horizon = Ramp(start_factor=1e-6, hold=hold), 56
    factors = [schedule.factor(step, horizon) for step in range(horizon)]
    rungs = factors[::hold]
    assert factors[0] == pytest.approx(1e-6)
    assert factors[-1] == pytest.approx(1.0)
    assert all(factors[step] == rungs[step // hold] for step in range(horizon))
    ratios = [math.log(b / a) for a, b in itertools.pairwise(rungs)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_a_negative_warm_up_is_refused() -> None:
    with pytest.raises(LrscaleError, match="must not be negative, not -1"):
        Warmup(steps=-1, then=Constant())


def test_a_warm_up_of_an_unknown_shape_is_refused() -> None:
    with pytest.raises(LrscaleError, match="unknown shape of warm-up 'cosin'"):
        Warmup(steps=1, then=Constant(), shape="cosin")  # type: ignore[arg-type]  # as a recipe may bring it


def test_a_cosine_warm_up_is_half_a_cosine_that_ends_at_the_peak() -> None:
    warm = Warmup(steps=4, then=Constant(), shape="cosine")
    expected = [math.sin(math.pi * share / 2) ** 2 for share in (0.25, 0.5, 0.75, 1.0)]
    assert [warm.factor(step, 10) for step in range(4)] == pytest.approx(expected)
    assert Warmup(steps=1, then=Constant(), shape="cosine").factor(0, 10) == 1.0


@pytest.mark.parametrize("shape", WARMUP_SHAPES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_to_the_start_of_any_schedule_and_moves_the_rest_behind_it(name: str, shape: WarmupShape) -> None:
    alone, warm = build_schedule(name), build_schedule(name, warmup_steps=8, warmup_shape=shape)
    rise = [warm.factor(step, 108) for step in range(8)]
    assert rise == sorted(rise)
    assert rise[0] > 0
    assert rise[-1] == pytest.approx(alone.factor(0, 100))
    assert [warm.factor(8 + step, 108) for step in range(100)] == [alone.factor(step, 100) for step in range(100)]


def test_a_piecewise_line_is_numpys_interpolation() -> None:
    points = [(0.0, 0.2), (0.1, 1.0), (0.35, 0.7), (0.8, 0.05)]
    schedule = build_schedule("piecewise", {"points": points, "between": "linear"})
    shares, factors = zip(*points, strict=True)
    for horizon in (7, 100, 1234):
        expected = np.interp(np.arange(horizon) / horizon, shares, factors).tolist()
        assert [schedule.factor(step, horizon) for step in range(horizon)] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("horizon", [10, 40, 1000])
def test_piecewise_factors_begin_at_the_very_step_of_their_share(horizon: int) -> None:
    schedule = build_schedule("piecewise", {"points": [[0, 1.0], [0.1, 0.6], [0.3, 0.3], [0.7, 0.2]]})
    for share, before, after in ((0.1, 1.0, 0.6), (0.3, 0.6, 0.3), (0.7, 0.3, 0.2)):
        step = round(share * horizon)
        assert (schedule.factor(step - 1, horizon), schedule.factor(step, horizon)) == (before, after)


def test_a_piecewise_schedule_is_its_own_warm_up() -> None:
    points = {"points": [[0, 0.1], [0.5, 1]]}
    assert build_schedule("piecewise", points).needs_warmup is False


def test_two_piecewise_schedules_are_told_apart_by_their_points() -> None:
    one, other = {"points": [[0, 1], [0.5, 0.1]]}, {"points": [[0, 1], [0.5, 0.2]]}
    assert schedule_label("piecewise", one) == "piecewise constant (1, 0.1 from 50 %)"
    assert schedule_label("piecewise", one) != schedule_label("piecewise", other)
    assert schedule_label("piecewise", {**one, "called": "found by PBT"}) == "found by PBT"
    many = {"points": [[0, 1], *([0.1 * place, 0.1] for place in range(1, 9))]}
    assert schedule_label("piecewise", many) == (
        "piecewise constant (1, 0.1 from 10 %, 0.1 from 20 %, 5 more, 0.1 from 80 %)"
    )
