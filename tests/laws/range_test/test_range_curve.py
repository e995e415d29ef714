from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.laws import (
    FitStatus,
    RangeFinding,
    analyse_range_curves,
    minimum_over_ten,
    slide,
    smooth_log_lr,
    stability_edge,
    steepest,
    valley,
)

LR = np.geomspace(1e-7, 10, 200)


def curve(rng=None, noise=0.05, level=2.3, fall=3e-3, edge=0.5):
    loss = level - 1.8 / (1 + fall / LR) + np.where(LR > edge, (LR / edge) ** 2 - 1, 0)
    loss = np.where(LR > 4 * edge, np.nan, loss)
    return LR, loss + (noise * rng.standard_normal(LR.size) if rng is not None else 0)


@given(level=st.floats(-1e3, 1e3), width=st.floats(0.05, 1.0))
def test_a_constant_loss_stays_constant(level, width):
    # An exponential average with a wrong debias exponent reports 0.5 of it at first, and a best loss that never was.
    np.testing.assert_allclose(smooth_log_lr(LR, np.full(200, level), width), level, rtol=1e-9, atol=1e-9)


def test_a_line_in_log_lr_stays_a_line_up_to_the_ends():
    line = 3 - 0.4 * np.log(LR)
    np.testing.assert_allclose(smooth_log_lr(LR, line), line, atol=1e-8)


def test_smoothing_has_no_lag():
    step = np.where(LR < 1e-3, 1.0, 0.0)
    smooth = smooth_log_lr(LR, step, 0.5)
    crossing = LR[np.argmin(np.abs(smooth - 0.5))]
    assert abs(np.log10(crossing / 1e-3)) < 0.03
    backwards = smooth_log_lr(1 / LR[::-1], step[::-1], 0.5)[::-1]
    np.testing.assert_allclose(backwards, smooth, atol=1e-9)


def test_non_finite_losses_are_left_out_of_the_smooth_curve():
    loss = np.full(200, 2.0)
    loss[[50, 150]] = [np.nan, np.inf]
    smooth = smooth_log_lr(LR, loss)
    assert np.isnan(smooth[[50, 150]]).all()
    np.testing.assert_allclose(np.delete(smooth, [50, 150]), 2.0)


def test_steepest_is_the_inflection_of_a_sigmoid_in_log_lr():
    assert steepest(LR, -1 / (1 + 3e-3 / LR)) == pytest.approx(3e-3, rel=0.1)
    assert steepest(LR, np.log(LR)) is None


def test_minimum_over_ten_and_edge_are_what_they_say():
    loss = np.log(LR / 1e-2) ** 2
    assert minimum_over_ten(LR, loss) == pytest.approx(1e-3, rel=0.05)
    edge = stability_edge(LR, loss - 9, initial=-9.0, margin=4.0)
    assert edge == pytest.approx(1e-2 * np.exp(2), rel=0.1)
    assert stability_edge(LR, -loss, initial=0.0, margin=1.0) is None


def published_valley(lrs, losses):
    """The definition in words of the published code, by the plain quadratic loop."""
    n = len(losses)
    length = [1] * n
    end, start = 0, 0
    for i in range(1, n):
        for j in range(i):
            if losses[i] < losses[j] and length[i] < length[j] + 1:
                length[i] = length[j] + 1
            if length[end] < length[i]:
                end = i
                start = end - length[end]
    sections = (end - start) / 3
    return float(lrs[max(start + int(sections) + int(sections / 2), 0)])


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=40))
def test_valley_follows_the_published_definition(losses):
    lrs = np.geomspace(1e-6, 1, len(losses))
    found = valley(lrs, losses)
    if found is not None:
        assert found == published_valley(lrs, losses)


def test_slide_does_not_move_on_a_straight_curve():
    assert slide(LR, np.zeros(200)) == pytest.approx(LR[-16])
    assert slide(LR[:10], np.zeros(10)) is None


def test_the_bracket_holds_the_useful_lrs_and_its_seeds_agree():
    rng = np.random.default_rng(0)
    finding = analyse_range_curves([curve(rng) for _ in range(3)])
    assert finding.status is FitStatus.OK
    lo, hi = finding.bracket
    assert 5e-5 < lo < 1.5e-3
    assert hi == pytest.approx(0.8, rel=0.3)
    assert finding.hi.n == 3
    assert finding.hi.factor < 1.5
    assert all(own.value is not None and lo / 30 < own.value < hi for own in finding.suggestions.values())
    assert finding.agreement_factor > 1


@pytest.mark.parametrize("offset", [-2.3, -50.0, 1000.0])
def test_the_sign_and_offset_of_the_loss_do_not_matter(offset):
    rng = np.random.default_rng(1)
    lr, loss = curve(rng)
    one, two = analyse_range_curves([(lr, loss)]), analyse_range_curves([(lr, loss + offset)])
    assert two.bracket == pytest.approx(one.bracket)
    assert two.suggestions["slide"].value == pytest.approx(one.suggestions["slide"].value)


def test_noise_alone_is_refused():
    rng = np.random.default_rng(2)
    findings = [analyse_range_curves([(LR, 5 + rng.standard_normal(200))]) for _ in range(60)]
    # At a chance of 1 % each, more than 4 of 60 has a probability below 0.1 %.
    assert sum(own.status is FitStatus.OK for own in findings) <= 4
    assert "within the noise" in findings[0].reason


def test_a_loss_whose_noise_falls_with_it_is_not_refused_for_the_noise_of_its_start():
    # A noisy regression: 100 points over nine decades, from 17 to nearly nothing, errors a share of the loss.
    lr = np.geomspace(1e-9, 1, 100)
    for number in range(20):
        rng = np.random.default_rng(number)
        mean = 0.1 + 17 / (1 + (lr / 2e-2) ** 2) + np.where(lr > 0.4, 50 * (lr - 0.4), 0)
        finding = analyse_range_curves([(lr, mean * (1 + 0.4 * rng.standard_normal(100)))])
        assert finding.status is FitStatus.OK, finding.reason
        assert 1e-4 < finding.bracket[0] < 0.1
        assert finding.curves[0].noise_sd == pytest.approx(6.8, rel=0.5)


def test_a_minimum_noisier_than_the_start_is_no_drop():
    # The start is quiet and the rest is noise about the same level: the lowest smoothed point is chance.
    passed = 0
    for number in range(60):
        rng = np.random.default_rng([7, number])
        noise = np.where(np.arange(200) < 40, 0.02, 1.0)
        passed += analyse_range_curves([(LR, 5 + noise * rng.standard_normal(200))]).status is FitStatus.OK
    assert passed <= 6


@pytest.mark.parametrize(
    ("lr", "loss", "status"),
    [
        (LR, np.full(200, -5.0), FitStatus.NOT_IDENTIFIABLE),
        (LR, np.full(200, np.nan), FitStatus.ALL_DIVERGED),
        (LR[:10], np.linspace(3, 2, 10), FitStatus.TOO_FEW_POINTS),
        (LR, np.log(LR), FitStatus.NOT_IDENTIFIABLE),
        (LR, 1 / (1 + LR / 1e-7), FitStatus.NOT_IDENTIFIABLE),
    ],
    ids=["flat", "diverged", "short", "rising", "falls from the start"],
)
def test_uninformative_curves_are_refused_with_a_reason(lr, loss, status):
    finding = analyse_range_curves([(lr, loss)])
    assert finding.status is status
    assert finding.bracket == (None, None)
    assert finding.reason.endswith(".")
    assert RangeFinding.from_dict(json.loads(json.dumps(finding.to_dict(), allow_nan=False))) == finding


def test_an_early_spike_that_recovers_is_not_the_edge():
    lr, loss = curve()
    loss = loss + 2 * np.exp(-((np.log10(lr) + 2.3) ** 2) / 0.005)
    finding = analyse_range_curves([(lr, loss)])
    assert finding.bracket[1] == pytest.approx(0.8, rel=0.3)


def test_a_stop_reported_by_the_trainer_is_an_edge():
    lr, loss = curve(np.random.default_rng(3))
    keep = lr < 0.3
    assert analyse_range_curves([(lr[keep], loss[keep])]).bracket[1] is None
    assert analyse_range_curves([(lr[keep], loss[keep])], diverged_at=[0.31]).bracket[1] == 0.31


def test_a_bad_seed_does_not_spoil_the_others():
    rng = np.random.default_rng(4)
    finding = analyse_range_curves([curve(rng), (LR, np.full(200, np.nan)), curve(rng)])
    assert finding.status is FitStatus.OK
    assert finding.lo.n == 2
    assert "1 curves were uninformative" in finding.reason
    assert finding.summary()


def test_a_finding_survives_json_exactly():
    finding = analyse_range_curves([curve(np.random.default_rng(5))])
    assert RangeFinding.from_dict(json.loads(json.dumps(finding.to_dict(), allow_nan=False))) == finding


@pytest.mark.parametrize("lr", [[1e-3, 1e-4], [0.0, 1.0], [np.nan, 1.0]])
def test_a_ramp_must_increase_and_be_positive(lr):
    with pytest.raises(LrscaleError, match="positive and increasing"):
        analyse_range_curves([(lr, [1.0, 2.0])])


def test_no_curve_is_misuse():
    with pytest.raises(LrscaleError, match="no curve"):
        analyse_range_curves([])
