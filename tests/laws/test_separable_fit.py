"""The result of fitting a separable law."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import lrscale.laws.scale  # noqa: F401  (registers the laws)
from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, Interval
from lrscale.laws.choice import Holdout
from lrscale.laws.separable_fit import Estimate, LawFit

DRAWS = tuple((2.0 + 0.01 * i, 5.0, 0.5) for i in range(-50, 51))
FIT = LawFit(
    law="power_offset",
    formula="loss = E + A / size^alpha",
    status=FitStatus.OK,
    reason="8 runs in 8 clusters.",
    estimates=(
        Estimate(name="E", value=2.0, interval=Interval(1.5, 2.5, 0.95), unit="loss"),
        Estimate(name="A", value=5.0, interval=Interval(4.0, None, 0.95)),
        Estimate(name="alpha", value=0.5, interval=None),
    ),
    derived=(Estimate(name="a", value=None, interval=None),),
    n_points=8,
    n_clusters=8,
    residual_sd=0.01,
    observed=(3.0, 2.5),
    fitted=(3.0, None),
    inputs={"size": (25.0, 100.0)},
    aicc=-31.5,
    runner_up="power_decay",
    aicc_difference=4.25,
    group_error=0.02,
    holdout=Holdout(what="the largest size", n=1, rms_error=0.03, mean_error=0.03, inside=1.0),
    draws=DRAWS,
    notes=("size is params.",),
)


def test_a_fit_survives_json():
    assert LawFit.from_dict(json.loads(json.dumps(FIT.to_dict()))) == FIT


def test_a_refused_fit_survives_json():
    empty = LawFit(
        law="power_offset",
        formula="",
        status=FitStatus.TOO_FEW_POINTS,
        reason="2 cells.",
        n_points=2,
        n_clusters=2,
    )
    assert LawFit.from_dict(json.loads(json.dumps(empty.to_dict()))) == empty
    assert not empty.ok
    with pytest.raises(LrscaleError, match="not fitted: 2 cells"):
        empty.predict({"size": [1.0]})


def test_the_summary_holds_every_number():
    text = FIT.summary()
    for part in (
        "power offset: ok",
        "8 runs in 8 clusters.",
        "E                 2 (95 % 1.5 to 2.5) loss",
        "A                 5 (95 % above 4)",
        "a                 not determined",
        "runner-up         power_decay (AICc +4.2)",
        "held out          the largest size (1 points): rms error 0.03, mean +0.03, 100 % inside the interval",
        "note: size is params.",
    ):
        assert part in text


def test_predictions_come_with_the_interval_of_the_draws():
    value, lo, hi = FIT.predict({"size": [25.0, 1e12]})
    np.testing.assert_allclose(value, [3.0, 2.0], atol=1e-5)
    np.testing.assert_allclose(hi - lo, 0.95, atol=1e-6)
    assert np.all((lo < value) & (value < hi))


def test_predictions_fall_back_on_the_median_where_a_value_is_withheld():
    hidden = replace(FIT.estimates[0], value=None)
    fit = replace(FIT, estimates=(hidden, *FIT.estimates[1:]))
    np.testing.assert_allclose(fit.predict({"size": [25.0]})[0], [3.0])


def test_an_unknown_estimate_is_named_with_those_there_are():
    with pytest.raises(LrscaleError, match=r"no beta.*it has E, A, alpha, a"):
        FIT.estimate("beta")
    assert FIT.estimate("a").value is None


def test_predictions_need_the_laws_own_variable():
    with pytest.raises(LrscaleError, match="needs size"):
        FIT.predict({"params": [1.0]})
