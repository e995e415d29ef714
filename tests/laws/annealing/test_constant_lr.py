from __future__ import annotations

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws import FitStatus
from lrscale.laws.annealing import Curve, Extrapolation, LRTrace, extrapolate_constant

from .published import FINAL_LOSSES, published_curve
from .simulated import noisy, shape


def flat(
    steps: int = 1000, every: int = 20, *, level: float = 3.0, amplitude: float = 4.0, alpha: float = 0.45
) -> Curve:
    trace = LRTrace.from_steps(0.01 * shape("constant", steps, 50))
    step = np.arange(60.0, steps + 1, every)
    loss = level + amplitude * (trace.area_at(step) / trace.peak) ** -alpha
    return Curve(name="flat", trace=trace, step=step, loss=loss)


def truth(curve: Curve, step: float, *, level: float = 3.0, amplitude: float = 4.0, alpha: float = 0.45) -> float:
    t = curve.trace.area[-1] / curve.trace.peak + step - curve.trace.last_step
    return float(level + amplitude * t**-alpha)


def test_a_noiseless_curve_returns_the_value_and_the_exponent():
    curve = flat()
    found = extrapolate_constant(curve, 10_000)
    assert found.ok
    assert found.value == pytest.approx(truth(curve, 10_000), abs=1e-6)
    assert found.alpha == pytest.approx(0.45, abs=1e-4)


def test_the_interval_covers_the_expected_loss_under_autocorrelated_noise():
    rng = np.random.default_rng(5)
    curve = flat()
    hits, studies = 0, 100
    for _ in range(studies):
        found = extrapolate_constant(noisy(curve, rng), 3000)
        hits += found.interval.contains(truth(curve, 3000))
    # 95 % of 100, less three standard deviations.
    assert hits >= 0.95 * studies - 3 * np.sqrt(0.95 * 0.05 * studies)


def test_the_value_is_known_far_better_than_the_exponent():
    found = extrapolate_constant(noisy(flat(), np.random.default_rng(1)), 2000)
    value, alpha = found.interval, found.alpha_interval
    assert (alpha.hi - alpha.lo) / found.alpha > 10 * (value.hi - value.lo) / found.value


def test_units_change_the_answer_only_by_their_factor():
    curve = noisy(flat(), np.random.default_rng(2))
    one = extrapolate_constant(curve, 3000)
    trace = LRTrace(step=4 * curve.trace.step, lr=9 * curve.trace.lr, area=36 * curve.trace.area)
    other = extrapolate_constant(Curve(name="u", trace=trace, step=4 * curve.step, loss=5 * curve.loss), 12_000)
    np.testing.assert_allclose(
        [other.value, other.interval.lo, other.interval.hi],
        np.multiply(5, [one.value, one.interval.lo, one.interval.hi]),
    )
    assert other.alpha == pytest.approx(one.alpha)


def test_one_wild_point_hardly_moves_the_value():
    curve = noisy(flat(), np.random.default_rng(4))
    loss = curve.loss.copy()
    loss[20] += 1.0
    wild = extrapolate_constant(Curve(name="wild", trace=curve.trace, step=curve.step, loss=loss), 3000)
    assert wild.value == pytest.approx(extrapolate_constant(curve, 3000).value, abs=0.02)


def test_a_bend_that_is_no_power_law_widens_the_interval():
    curve = noisy(flat(), np.random.default_rng(8), sd=1e-4)
    bent = Curve(name="bent", trace=curve.trace, step=curve.step, loss=curve.loss + 0.1 * np.exp(-curve.step / 100))
    straight, other = extrapolate_constant(curve, 3000), extrapolate_constant(bent, 3000)
    assert other.window_shift > 3 * straight.window_shift
    assert other.interval.contains(truth(curve, 3000))


def test_twenty_points_of_a_published_curve_extrapolate_to_three_times_its_steps():
    # 25M model at a constant LR of 3e-4 for 72k steps: 3.2573 at step 71936 (Luo et al. 2025, arXiv:2503.12811).
    found = extrapolate_constant(published_curve("constant"), 71_936)
    assert found.interval.contains(FINAL_LOSSES["constant_72000"])
    assert found.value == pytest.approx(FINAL_LOSSES["constant_72000"], abs=0.01)


@pytest.mark.parametrize("name", ["cosine", "drop", "wsd"])
def test_a_decayed_curve_is_refused(name):
    trace = LRTrace.from_steps(shape(name))
    step = np.arange(60.0, 901, 20)
    found = extrapolate_constant(Curve(name=name, trace=trace, step=step, loss=3 + step**-0.5), 2000)
    assert found.status is FitStatus.NOT_IDENTIFIABLE
    assert "falls from 1 to" in found.reason
    assert found.value is None


def test_what_cannot_be_extrapolated_gets_a_status_and_a_reason():
    curve = flat()
    cut = curve.step >= 900
    late = Curve(name="late", trace=curve.trace, step=curve.step[cut], loss=curve.loss[cut])
    assert extrapolate_constant(late, 2000).status is FitStatus.TOO_FEW_POINTS
    step = np.arange(600.0, 1001, 20)
    assert (
        "factor"
        in extrapolate_constant(Curve(name="half", trace=curve.trace, step=step, loss=3 + step**-0.4), 2000).reason
    )
    rising = Curve(name="rising", trace=curve.trace, step=curve.step, loss=3 + 0.001 * curve.step)
    assert extrapolate_constant(rising, 2000).status is FitStatus.NOT_IDENTIFIABLE
    loss = curve.loss.copy()
    loss[-1] = np.nan
    lost = Curve(name="lost", trace=curve.trace, step=curve.step, loss=loss)
    assert extrapolate_constant(lost, 2000).status is FitStatus.ALL_DIVERGED
    level = Curve(name="level", trace=curve.trace, step=curve.step, loss=np.full(curve.step.size, 3.0))
    assert extrapolate_constant(level, 2000).status in (FitStatus.NOT_IDENTIFIABLE, FitStatus.OK)


def test_a_target_before_the_last_point_is_wrong():
    with pytest.raises(LrscaleError, match="target_step 500"):
        extrapolate_constant(flat(), 500)


def test_the_result_survives_a_round_trip_and_prints():
    found = extrapolate_constant(noisy(flat(), np.random.default_rng(7)), 3000)
    assert Extrapolation.from_dict(found.to_dict()) == found
    assert "at step 3000" in found.summary()
