"""Tables that nobody planned end in a status, never in an exception or a warning."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lrscale.laws.base import FitStatus
from lrscale.laws.scale import OptimumFit, fit_loss_scaling, fit_optimum_scaling
from lrscale.laws.separable_fit import LawFit

sizes = st.sampled_from([1e6, 3e6, 1e7, 1.1e7, 1e9, 7e10])
positive = st.floats(1e-6, 1e6)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(sizes, sizes, positive | st.just(float("nan"))), min_size=1, max_size=14))
def test_any_losses_end_in_a_status(rows):
    params, tokens, loss = np.array(rows).T
    fit = fit_loss_scaling(params, tokens, loss, resamples=100)
    assert isinstance(fit.status, FitStatus) and fit.reason
    assert LawFit.from_dict(json.loads(json.dumps(fit.to_dict()))) == fit
    assert fit.summary()


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(sizes, sizes, st.sampled_from([8, 32, 64, 256, 1024]), positive), min_size=1, max_size=20),
    sides=st.lists(st.sampled_from([0, 0, 0, 1, -1]), min_size=20, max_size=20),
    alone=st.booleans(),
)
def test_any_optima_end_in_a_status(rows, sides, alone):
    params, tokens, batch, lr = np.array(rows).T
    cluster = range(lr.size) if alone else None
    variables = {"params": params, "tokens": tokens, "batch": batch}
    fit = fit_optimum_scaling(lr, variables, censored=sides[: lr.size], cluster=cluster, resamples=100)
    assert isinstance(fit.status, FitStatus) and fit.reason
    assert OptimumFit.from_dict(json.loads(json.dumps(fit.to_dict()))) == fit
    assert fit.summary()
    if fit.draws:
        value, lo, hi = fit.predict(variables)
        known = np.isfinite(value)
        assert np.all(lo[known] <= value[known]) and np.all(value[known] <= hi[known])
