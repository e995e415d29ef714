"""Decays that step, cycle, or follow a power: agreement with torch and transformers step by step, and closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lrscale.schedules import (
    WSD,
    WSDS,
    CosineRestarts,
    Exponential,
    Inverse,
    InverseSqrt,
    MultiStep,
    Polynomial,
    Power,
    Step,
    Triangular,
    Warmup,
    build_schedule,
)

from .test_values import STEPS, torch_course


def course(schedule: Any, steps: int = STEPS) -> list[float]:
    return [schedule.factor(step, steps) for step in range(steps)]


@pytest.mark.parametrize("power", [0.5, 0.9, 1.0, 2.0])
def test_polynomial_is_torchs_polynomial(power: float) -> None:
    from torch.optim.lr_scheduler import PolynomialLR

    lrs, _ = torch_course(lambda optimizer: PolynomialLR(optimizer, total_iters=STEPS, power=power))
    assert course(Polynomial(power=power)) == pytest.approx(lrs, rel=1e-7)


def test_exponential_is_torchs_exponential() -> None:
    from torch.optim.lr_scheduler import ExponentialLR

    lrs, _ = torch_course(lambda optimizer: ExponentialLR(optimizer, gamma=0.01 ** (1 / STEPS)))
    assert course(Exponential(final_factor=0.01)) == pytest.approx(lrs, rel=1e-9)


# 0.3 and 0.1 of 40 steps are 12 and 4 of them, though 3 * 0.1 * 40 is no 12 in floating point.
@pytest.mark.parametrize(("fraction", "size"), [(0.3, 12), (0.25, 10), (0.1, 4), (1.0, 40)])
def test_step_is_torchs_step(fraction: float, size: int) -> None:
    from torch.optim.lr_scheduler import StepLR

    lrs, _ = torch_course(lambda optimizer: StepLR(optimizer, step_size=size, gamma=0.5))
    assert course(Step(every_fraction=fraction, gamma=0.5)) == pytest.approx(lrs, rel=1e-9)


def test_multi_step_is_torchs_multi_step() -> None:
    from torch.optim.lr_scheduler import MultiStepLR

    lrs, _ = torch_course(lambda optimizer: MultiStepLR(optimizer, milestones=[12, 24, 32], gamma=0.2))
    assert course(MultiStep(milestones=(0.3, 0.6, 0.8), gamma=0.2)) == pytest.approx(lrs, rel=1e-9)


@pytest.mark.parametrize(("cycles", "growth", "first", "steps"), [(1, 1, 40, 40), (4, 1, 10, 40), (3, 2, 10, 70)])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_restarts_are_torchs_warm_restarts(cycles: int, growth: int, first: int, steps: int, final: float) -> None:
    from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

    lrs, _ = torch_course(
        lambda optimizer: CosineAnnealingWarmRestarts(optimizer, T_0=first, T_mult=growth, eta_min=final), steps
    )
    ours = course(CosineRestarts(cycles=cycles, growth=float(growth), final_factor=final), steps)
    assert ours == pytest.approx(lrs, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("mode", "halve"), [("triangular", False), ("triangular2", True)])
def test_triangles_are_torchs_cyclic_in_lr_and_momentum(mode: str, halve: bool) -> None:
    from torch.optim.lr_scheduler import CyclicLR

    lrs, momenta = torch_course(
        lambda optimizer: CyclicLR(optimizer, base_lr=0.2, max_lr=1.0, step_size_up=5, mode=mode)  # type: ignore[arg-type]
    )
    schedule = Triangular(cycles=4, base_factor=0.2, halve=halve, cycle_momentum=True)
    assert course(schedule) == pytest.approx(lrs, rel=1e-9)
    assert [schedule.momentum(step, STEPS) for step in range(STEPS)] == pytest.approx(momenta, rel=1e-9)
    assert Triangular().momentum(3, STEPS) is None


def test_inverse_is_torchs_lambda() -> None:
    from torch.optim.lr_scheduler import LambdaLR

    lrs, _ = torch_course(lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (1 + step / 10)))
    assert course(Inverse(timescale_fraction=0.25)) == pytest.approx(lrs, rel=1e-12)


WARM = 10


def after_warm_up(step: int) -> float:
    return (step - WARM) / (STEPS - WARM)


# What transformers.optimization (4.x) multiplies the LR by from the end of its warm-up on, with its own defaults.
TRANSFORMERS = {
    "linear": lambda step: max(0.0, (STEPS - step) / (STEPS - WARM)),
    "cosine": lambda step: max(0.0, 0.5 * (1 + math.cos(math.pi * 0.5 * 2 * after_warm_up(step)))),
    "cosine_restarts": lambda step: max(0.0, 0.5 * (1 + math.cos(math.pi * ((3 * after_warm_up(step)) % 1.0)))),
    "polynomial": lambda step: (1 - 1e-4) * (1 - after_warm_up(step)) ** 2 + 1e-4,
    "inverse_sqrt": lambda step: 1 / math.sqrt((step + 30 - WARM) / 30),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "cosine_restarts": {"cycles": 3, "growth": 1.0},
    "polynomial": {"power": 2.0, "final_factor": 1e-4},
    "inverse_sqrt": {"timescale_fraction": 1.0},
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_after_warm_up_a_schedule_is_that_of_transformers(name: str) -> None:
    schedule = build_schedule(name, SETTINGS.get(name, {}), warmup_steps=WARM)
    ours = [schedule.factor(step, STEPS) for step in range(WARM, STEPS)]
    assert ours == pytest.approx([TRANSFORMERS[name](step) for step in range(WARM, STEPS)], rel=1e-9, abs=1e-12)


def test_transformers_inverse_square_root_is_ours() -> None:
    schedule = Warmup(steps=WARM, then=InverseSqrt(timescale_fraction=1 / 3))
    for step in range(WARM, STEPS):
        assert schedule.factor(step, STEPS) == pytest.approx(math.sqrt(10 / (step - WARM + 10)))


def test_the_power_scheduler_is_its_formula() -> None:
    # min(peak, a * batch * n ** b) over the first 90 %, n in examples; a * batch is such that both meet at 10 %.
    steps, batch, b = 200, 32, -0.51
    scale = (0.1 * steps * batch) ** -b
    schedule = Power(knee_fraction=0.1, exponent=b, decay_fraction=0.1)
    for step in range(1, 180):
        assert schedule.factor(step, steps) == pytest.approx(min(1.0, scale * (step * batch) ** b), rel=1e-12)
    held = schedule.factor(180, steps)
    assert schedule.factor(190, steps) == pytest.approx(held / 2)


@pytest.mark.parametrize(
    ("decay", "half"),
    [
        ("one_minus_square", 0.75),
        # Twice the linear one less the cosine, which meet in the middle.
        ("mirror_cosine", 0.5),
        ("exponential", math.sqrt(0.01)),
        ("reciprocal", 1 / (0.5 / 0.01 + 0.5)),
    ],
)
def test_cooldowns_are_their_formulas(decay: Any, half: float) -> None:
    final = 0.01
    if decay not in ("exponential", "reciprocal"):
        half = final + (1 - final) * half
    schedule = WSD(decay_fraction=0.2, final_factor=final, decay=decay)
    assert [schedule.factor(step, 100) for step in (0, 80)] == [1.0, 1.0]
    assert schedule.factor(90, 100) == pytest.approx(half)
    assert schedule.factor(100, 100) == pytest.approx(final)
    falls = [schedule.factor(step, 1000) for step in range(800, 1001)]
    assert falls == sorted(falls, reverse=True)


def test_every_end_of_wsd_s_is_that_of_a_wsd_of_its_length() -> None:
    schedule = WSDS(ends=(0.25, 0.5, 1.0), decay_fraction=0.1)
    for end in (100, 200, 400):
        alone = WSD(decay_fraction=0.1, final_factor=0.1, decay="reciprocal")
        for step in range(int(0.9 * end), end):
            assert schedule.factor(step, 400) == pytest.approx(alone.factor(step, end))
        if end < 400:
            assert schedule.factor(end, 400) == 1.0


def test_means_of_decays_are_their_integrals() -> None:
    steps = 20_000

    def mean(name: str, **settings: Any) -> float:
        return sum(course(build_schedule(name, settings), steps)) / steps

    assert mean("polynomial", power=2.0) == pytest.approx(1 / 3, abs=1e-4)
    assert mean("exponential", final_factor=0.01) == pytest.approx((1 - 0.01) / math.log(100), abs=1e-4)
    assert mean("inverse", timescale_fraction=0.1) == pytest.approx(0.1 * math.log(11), abs=1e-4)
    assert mean("triangular", base_factor=0.2) == pytest.approx(0.6, abs=1e-4)
    assert mean("cosine_restarts") == pytest.approx(0.5, abs=2e-4)
    # Without drops the whole peak, then a tenth of it over the last 40 %.
    assert mean("multi_step", milestones=[0.6]) == pytest.approx(0.6 + 0.04, abs=1e-4)
