from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws import OPTIMAL_LR_LAWS, FitStatus, OptimalLRFit, fit_lr_slice, fit_optimal_lr
from lrscale.laws.optimal_lr.law_fit import Vertices, fit_law

from ..simulated import grid

BATCHES = (16.0, 64.0, 256.0, 1024.0, 4096.0)
TRUTHS = {
    "constant": (0.01,),
    "square_root": (0.001,),
    "linear": (0.0001,),
    "power": (0.001, 0.7),
    "saturating": (0.02, 200.0),
    "saturating_free": (0.02, 200.0, 0.6),
    "surge": (0.02, 1000.0),
}


def sliced(best, rng=None, noise=0.0, lrs=7, shift=0.0):
    """Return the fit of one slice with a given best LR, its grid centred `shift` doublings off."""
    lr = grid(lrs, math.log(best) + shift * math.log(2))
    u = np.log(lr / best)
    loss = 3 + 0.05 * (u**2 + 0.1 * u**3)
    if rng is not None:
        loss = loss + noise * rng.standard_normal(lrs)
    return fit_lr_slice(lr, loss, resamples=200)


def slices_of(law, params, rng=None, noise=0.0, batches=BATCHES):
    best = OPTIMAL_LR_LAWS[law].predict(np.array(params), np.array(batches))
    return [sliced(value, rng, noise) for value in best]


@pytest.mark.parametrize("name", list(OPTIMAL_LR_LAWS))
def test_every_law_describes_itself_and_predicts_positive_lrs(name):
    law = OPTIMAL_LR_LAWS[name]
    assert law.name == name
    assert law.n_parameters == len(law.parameters) == len(TRUTHS[name])
    assert all(parameter.meaning and parameter.lower < parameter.upper for parameter in law.parameters)
    shapes = law.shape_grid(np.array(BATCHES))
    assert shapes.shape[1] == law.n_parameters - 1
    assert len(shapes) % law.line_length == 0
    guesses = law.initial_guesses(np.array(BATCHES), np.full(5, 0.01))
    assert np.all(law.predict(guesses, np.array(BATCHES)) > 0)
    slope = law.local_slope(np.array([TRUTHS[name][1:]]).reshape(1, -1), np.array(BATCHES))
    assert np.all((slope >= -0.5 - 1e-6) & (slope <= 1 + 1e-6))


@pytest.mark.parametrize("name", list(OPTIMAL_LR_LAWS))
def test_exact_vertices_give_the_law_back_to_1e_4(name):
    law, params = OPTIMAL_LR_LAWS[name], np.array(TRUTHS[name])
    batch = np.array(BATCHES)
    data = Vertices(
        batch=batch, y=np.log(law.predict(params, batch)), variance=np.full(5, 0.01), side=np.zeros(5, dtype=int)
    )
    found = fit_law(law, data).params
    np.testing.assert_allclose(law.predict(found, batch), law.predict(params, batch), rtol=1e-4)
    np.testing.assert_allclose(found, params, rtol=1e-2)


@pytest.mark.parametrize(
    ("name", "ruled_out"),
    [
        ("constant", ["square_root", "linear"]),
        ("square_root", ["constant", "linear"]),
        ("linear", ["constant", "square_root"]),
    ],
)
def test_the_rule_that_holds_is_consistent_and_the_others_are_ruled_out(name, ruled_out):
    fit = fit_optimal_lr(BATCHES, slices_of(name, TRUTHS[name], np.random.default_rng(0), 0.003))
    assert fit.status is FitStatus.OK
    assert fit.row(name).verdict == "consistent"
    assert all(fit.row(rule).verdict == "ruled out" for rule in ruled_out)


def test_a_saturating_truth_beats_every_power_law():
    fit = fit_optimal_lr(BATCHES, slices_of("saturating", TRUTHS["saturating"], np.random.default_rng(1), 0.003))
    assert fit.law == "saturating"
    assert fit.row("saturating").loo_error < fit.row("power").loo_error
    assert fit.knee == pytest.approx(200, rel=0.5)
    assert fit.knee_interval.contains(200)
    slope, lo, hi = fit.local_slope([16, 4096])
    assert lo[0] > 0.6
    assert hi[1] < 0.4
    assert np.all((lo <= slope) & (slope <= hi))


def test_wide_slices_cannot_tell_the_rules_apart():
    rng = np.random.default_rng(2)
    batches = (210.0, 256.0, 310.0)
    fit = fit_optimal_lr(batches, slices_of("square_root", (0.001,), rng, 0.03, batches))
    assert {fit.row(rule).verdict for rule in ("constant", "square_root", "linear")} == {"cannot tell"}


def test_three_slices_choose_only_among_rules_without_a_free_exponent():
    fit = fit_optimal_lr(BATCHES[:3], slices_of("square_root", (0.001,), batches=BATCHES[:3]))
    assert fit.law == "square_root"
    assert fit.row("power").aicc is None
    assert "saturating_free" not in [row.law for row in fit.table]


def test_two_slices_are_too_few():
    fit = fit_optimal_lr(BATCHES[:2], slices_of("linear", (1e-4,), batches=BATCHES[:2]))
    assert fit.status is FitStatus.TOO_FEW_POINTS
    with pytest.raises(LrscaleError, match="no law was fitted"):
        fit.predict([64])


def test_predictions_hold_the_truth_and_widen_outside_the_range():
    rng = np.random.default_rng(3)
    law, params = OPTIMAL_LR_LAWS["saturating"], np.array(TRUTHS["saturating"])
    hits = 0
    for _ in range(8):
        fit = fit_optimal_lr(BATCHES, slices_of("saturating", params, rng, 0.01), resamples=300)
        lr, lo, hi = fit.predict([256, 65536])
        truth = law.predict(params, np.array([256.0, 65536.0]))
        hits += int(np.sum((lo <= truth) & (truth <= hi)))
        assert np.all((lo <= lr) & (lr <= hi))
        assert hi[1] / lo[1] > hi[0] / lo[0]
    # At 95 % each, fewer than 13 of 16 has a probability of 0.1 %.
    assert hits >= 13


def test_dropping_censored_slices_would_bias_the_exponent():
    # Linear truth, but the LR grid stops: at the two largest batches the optimum lies above it.
    batches = (16.0, 64.0, 256.0, 1024.0, 4096.0)
    rng = np.random.default_rng(4)
    slices = []
    for batch in batches:
        best = 1e-4 * batch
        lr = np.geomspace(1e-4, 6e-2, 14)
        u = np.log(lr / best)
        slices.append(fit_lr_slice(lr, 3 + 0.05 * u**2 + 0.01 * rng.standard_normal(14), resamples=200))
    assert [own.status for own in slices[-2:]] == [FitStatus.CENSORED_HIGH] * 2
    kept = fit_optimal_lr(batches, slices)
    lowest = kept.predict([4096])[1][0]
    assert kept.slice_status[-1] == "censored_high"
    # The edge taken as the optimum: what a grid search would have reported.
    edges = [math.log(own.best_lr if own.ok else 6e-2) for own in slices]
    naive = float(np.polyfit(np.log(batches), edges, 1)[0])
    exponent = dict((row.law, row) for row in kept.table)["power"].parameters[1]
    assert abs(exponent[1] - 1) < abs(naive - 1)
    assert kept.predict([4096])[2][0] > 6e-2
    assert lowest > 0.5 * 6e-2


def test_only_a_bound_on_the_knee_when_all_data_lie_below_it():
    batches = (4.0, 8.0, 16.0, 32.0, 64.0)
    fit = fit_optimal_lr(batches, slices_of("linear", (1e-4,), np.random.default_rng(5), 0.005, batches))
    assert fit.knee is None
    assert fit.knee_interval.hi is None
    assert fit.knee_interval.lo > 64


def test_scatter_beyond_the_slices_own_errors_widens_everything():
    rng = np.random.default_rng(6)
    best = 0.001 * np.sqrt(BATCHES) * np.exp(0.4 * rng.standard_normal(5))
    fit = fit_optimal_lr(BATCHES, [sliced(value) for value in best])
    assert fit.lack_of_fit_sd > 0.15
    _, lo, hi = fit.predict([256])
    assert math.log(hi[0] / lo[0]) > 0.3


def test_unit_of_the_batch_does_not_matter():
    slices = slices_of("saturating", TRUTHS["saturating"], np.random.default_rng(7), 0.005)
    one, two = fit_optimal_lr(BATCHES, slices), fit_optimal_lr([2048 * b for b in BATCHES], slices)
    assert two.law == one.law
    np.testing.assert_allclose(two.predict([2048 * 100.0]), one.predict([100.0]), rtol=1e-3)


def test_unusable_slices_are_left_out_and_reported():
    slices = slices_of("square_root", TRUTHS["square_root"])
    slices[2] = fit_lr_slice([1e-3], [1.0])
    fit = fit_optimal_lr(BATCHES, slices)
    assert fit.ok
    assert fit.best_lrs[2] is None
    assert fit.slice_status[2] == "too_few_points"
    assert fit.inside(100)
    assert not fit.inside(10_000)


def test_all_censored_slices_are_censored():
    lr = grid(7)
    slices = [fit_lr_slice(lr, -np.log(lr)) for _ in range(3)]
    fit = fit_optimal_lr([1, 2, 4], slices)
    assert fit.status is FitStatus.CENSORED_HIGH
    assert fit.law is None


def test_a_fit_survives_json_exactly():
    fit = fit_optimal_lr(BATCHES, slices_of("saturating", TRUTHS["saturating"], np.random.default_rng(8), 0.01))
    again = OptimalLRFit.from_dict(json.loads(json.dumps(fit.to_dict(), allow_nan=False)))
    assert again == fit
    np.testing.assert_array_equal(again.predict([100]), fit.predict([100]))
    assert "saturating" in fit.summary()


def surge_slices(rng, batches, knee):
    return slices_of("surge", (0.02, knee), rng, 0.003, batches)


def test_a_decline_past_the_knee_is_told_as_a_surge():
    batches = (16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0)
    fit = fit_optimal_lr(batches, surge_slices(np.random.default_rng(9), batches, 400.0))
    assert fit.law == "surge"
    assert fit.row("surge").parameters[1][2].contains(400)
    slope, lo, hi = fit.local_slope([16, 16384])
    assert lo[0] > 0.2
    assert hi[1] < -0.2
    assert np.all((lo <= slope) & (slope <= hi))


@pytest.mark.parametrize(("name", "params"), [("power", (0.001, 0.5)), ("saturating", (0.02, 300.0))])
def test_noise_does_not_choose_the_surge(name, params):
    rng = np.random.default_rng(10)
    for _ in range(4):
        fit = fit_optimal_lr(BATCHES, slices_of(name, params, rng, 0.02), resamples=100)
        assert fit.law != "surge"
        assert fit.row("surge").weight == 0


def test_the_range_of_each_rule_is_said():
    fit = fit_optimal_lr(BATCHES, slices_of("saturating", (0.02, 300.0), np.random.default_rng(11), 0.003))
    rules = {row.rule: row for row in fit.rules}
    # The local slope of the truth is 300 / (300 + batch): linear far below the knee, constant far above it.
    assert rules["linear"].lo == pytest.approx(16)
    assert rules["linear"].hi < 300
    assert rules["constant"].lo > 300
    assert rules["constant"].hi == pytest.approx(4096)
    assert rules["square_root"].lo < 300 < rules["square_root"].hi
    assert not any(row.whole for row in fit.rules)
    assert "linear: not excluded from batch 16 to" in fit.summary()


def test_a_rule_that_holds_everywhere_is_said_to():
    fit = fit_optimal_lr(BATCHES, slices_of("square_root", (0.001,), np.random.default_rng(12), 0.003))
    rules = {row.rule: row for row in fit.rules}
    assert rules["square_root"].whole
    assert rules["linear"].lo is None
    assert rules["linear"].text() == "linear: excluded everywhere"


def test_a_fit_written_before_rules_had_ranges_is_still_read():
    fit = fit_optimal_lr(BATCHES, slices_of("linear", (1e-4,)))
    data = fit.to_dict()
    del data["rules"]
    assert OptimalLRFit.from_dict(data) == replace(fit, rules=())


def test_many_censored_slices_take_less_than_a_second():
    rng = np.random.default_rng(13)
    lr = np.geomspace(1e-4, 6e-2, 14)
    batches = 16.0 * 4.0 ** np.arange(8)
    slices = [
        fit_lr_slice(lr, 3 + 0.05 * np.log(lr / (1e-4 * batch)) ** 2 + 0.01 * rng.standard_normal(14), resamples=200)
        for batch in batches
    ]
    assert sum(own.status is FitStatus.CENSORED_HIGH for own in slices) == 5
    start = time.process_time()
    assert fit_optimal_lr(batches, slices).ok
    # 0.2 s where it was measured; 6 s before the grid.
    assert time.process_time() - start < 1.5


def test_a_missing_batch_size_leaves_the_law_where_it_was():
    slices = slices_of("saturating", (0.02, 300.0), np.random.default_rng(14), 0.005)
    whole = fit_optimal_lr(BATCHES, slices)
    holed = fit_optimal_lr([*BATCHES[:2], *BATCHES[3:]], [*slices[:2], *slices[3:]])
    truth = 0.02 / (1 + 300 / 256)
    for fit in (whole, holed):
        _, lo, hi = fit.predict([256])
        assert lo[0] <= truth <= hi[0]
    lo, hi = holed.predict([256])[1:]
    assert 0.8 * (whole.predict([256])[0][0]) < holed.predict([256])[0][0] < 1.25 * whole.predict([256])[0][0]
    assert hi[0] / lo[0] >= 0.9 * whole.predict([256])[2][0] / whole.predict([256])[1][0]


@pytest.mark.parametrize(
    ("batches", "match"),
    [([1, 2], "2 batch sizes for 5"), ([1, 2, 3, 4, -5], "row 4"), ([1, 2, np.nan, 4, 5], "row 2")],
)
def test_misuse_names_the_row(batches, match):
    with pytest.raises(LrscaleError, match=match):
        fit_optimal_lr(batches, slices_of("constant", (0.01,)))
