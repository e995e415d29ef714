"""The contract of separable laws, over every registered member."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import lrscale.laws.scale
import lrscale.laws.steps  # noqa: F401  (registers its laws, as the package above does)
from lrscale.errors import LrscaleError
from lrscale.laws.separable import SEPARABLE_LAWS
from lrscale.laws.varpro import solve

LAWS = list(SEPARABLE_LAWS.values())
each_law = pytest.mark.parametrize("law", LAWS, ids=[law.name for law in LAWS])


def variables(law, *, points=6):
    """A crossed grid over four decades of each variable."""
    axis = np.geomspace(1e2, 1e6, points)
    grid = np.array(list(itertools.product(axis, repeat=len(law.inputs)))).T
    return dict(zip(law.inputs, grid, strict=True))


def truth(law, x):
    """Parameters near a first guess, with terms of like size."""
    guesses = law.first_guesses(x)
    shape = guesses[len(guesses) // 2] * 1.07
    columns = law.columns(shape[None], x)[0]
    amplitudes = np.arange(1, len(law.linear) + 1) / np.median(columns, axis=0)
    return law.join(amplitudes[None], shape[None])[0]


def test_the_registry_holds_the_laws_of_scale():
    assert {"chinchilla", "power_sum", "power_offset", "power_decay"} <= set(SEPARABLE_LAWS)


@each_law
def test_a_law_describes_itself(law):
    assert SEPARABLE_LAWS[law.name] is law
    assert all(name in law.formula for name in law.inputs)
    assert law.__doc__
    names = [parameter.name for parameter in law.parameters]
    assert len(set(names)) == len(names) == law.n_parameters
    for parameter in law.parameters:
        assert parameter.name in law.formula
        assert parameter.lower < parameter.upper
        assert parameter.meaning
        if parameter.linear:
            assert parameter.lower == 0.0 and math.isinf(parameter.upper) and parameter.unit


@each_law
def test_columns_and_guesses_have_their_shapes(law):
    x = variables(law)
    n = x[law.inputs[0]].size
    guesses = law.first_guesses(x)
    assert guesses.ndim == 2 and guesses.shape[1] == len(law.shaping)
    lower, upper = law.bounds
    assert np.all((guesses >= lower) & (guesses <= upper))
    columns = law.columns(guesses, x)
    assert columns.shape == (len(guesses), n, len(law.linear))
    assert np.isfinite(columns).all() and (columns >= 0).all()


@each_law
def test_predictions_have_the_shape_of_parameters_and_points(law):
    x = variables(law)
    params = truth(law, x)
    one, many = law.predict(params, x), law.predict(np.stack([params, params]), x)
    assert one.shape == x[law.inputs[0]].shape and many.shape == (2, one.size)
    np.testing.assert_allclose(many[1], one, rtol=1e-14)


@each_law
@pytest.mark.parametrize("residual", ["log", "linear"])
def test_noiseless_data_return_their_parameters(law, residual):
    x = variables(law)
    params = truth(law, x)
    found = solve(law, x, law.predict(params, x), residual=residual)
    np.testing.assert_allclose(found.params, params, rtol=1e-4)
    assert found.at_bound == ()


@each_law
def test_rescaled_inputs_and_values_change_the_curve_by_that_constant_only(law):
    x = variables(law)
    y = law.predict(truth(law, x), x) * np.exp(0.02 * np.random.default_rng(1).standard_normal(x[law.inputs[0]].size))
    plain = solve(law, x, y, delta=np.inf)
    scaled = {name: own * 3600.0 for name, own in x.items()}
    other = solve(law, scaled, 7.0 * y, delta=np.inf)
    np.testing.assert_allclose(law.predict(other.params, scaled), 7.0 * law.predict(plain.params, x), rtol=1e-5)


@each_law
def test_bad_inputs_are_named_with_their_row(law):
    x = variables(law)
    params = truth(law, x)
    name = law.inputs[0]
    with pytest.raises(LrscaleError, match=f"needs .*{name}"):
        law.predict(params, {})
    with pytest.raises(LrscaleError, match="needs"):
        law.predict(params, {**x, "colour": x[name]})
    broken = x[name].copy()
    broken[3] = np.nan
    with pytest.raises(LrscaleError, match=f"row 3: {name} nan"):
        law.predict(params, {**x, name: broken})
    broken[3] = -1.0
    with pytest.raises(LrscaleError, match=f"row 3: {name} -1"):
        law.predict(params, {**x, name: broken})
    with pytest.raises(LrscaleError, match="shape"):
        law.predict(params, {one: np.ones((2, 2)) for one in law.inputs})
