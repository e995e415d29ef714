"""Leverage, and the size of the noise about a fit."""

from __future__ import annotations

import numpy as np
import pytest

from lrscale.laws.leverage import robust_sd, tangent
from lrscale.laws.scale.loss import CHINCHILLA, POWER_DECAY

LAW = np.array([1.817, 482.0, 0.348, 2085.0, 0.366])


def cells(sizes, tokens, unit=1.0):
    axes = unit * np.geomspace(5e7, 4e9, sizes), np.geomspace(1e9, 1.5e11, tokens)
    return dict(zip(("params", "tokens"), (axis.ravel() for axis in np.meshgrid(*axes)), strict=True))


def test_the_leverage_of_a_line_is_the_diagonal_of_its_hat_matrix():
    x, weight = np.array([1.0, 2.0, 5.0, 40.0]), np.array([1.0, 2.0, 0.5, 1.0])
    design = np.sqrt(weight)[:, None] * np.column_stack([np.ones(4), np.log(x)])
    hat = design @ np.linalg.inv(design.T @ design) @ design.T
    basis = tangent(POWER_DECAY, {"size": x}, np.array([3.0, 0.5]), weight=weight)
    np.testing.assert_allclose(basis @ basis.T, hat, atol=1e-7)


def test_the_basis_is_orthonormal_and_the_same_in_other_units():
    basis = tangent(CHINCHILLA, cells(3, 4), LAW, weight=np.ones(12))
    np.testing.assert_allclose(basis.T @ basis, np.eye(5), atol=1e-9)
    moved = LAW * [1, 1000**0.348, 1, 1, 1]
    np.testing.assert_allclose(tangent(CHINCHILLA, cells(3, 4, 1000.0), moved, weight=np.ones(12)), basis, atol=1e-5)


@pytest.mark.parametrize(("sizes", "tokens", "largest"), [(3, 3, 2.0), (6, 8, 1.2)])
def test_the_noise_about_a_fit_is_never_taken_for_smaller_than_it_is(sizes, tokens, largest):
    rng = np.random.default_rng(0)
    x = cells(sizes, tokens)
    n = x["params"].size
    basis = tangent(CHINCHILLA, x, LAW, weight=np.ones(n))
    noise = rng.standard_normal((400, n))
    residuals = noise - noise @ basis @ basis.T
    found = np.array([robust_sd(CHINCHILLA, x, LAW, own, np.ones(n)) for own in residuals])
    plain = 1.4826 * np.median(np.abs(residuals), axis=1)
    assert 1.0 < np.sqrt(np.mean(found**2)) < largest
    assert n > 9 or np.sqrt(np.mean(plain**2)) < 0.8


def test_an_outlier_does_not_set_the_size_of_the_noise():
    x = {"size": np.geomspace(1.0, 1e4, 12)}
    residuals = 0.01 * np.random.default_rng(1).standard_normal(12)
    wild = residuals.copy()
    wild[5] = 3.0
    params, ones = np.array([3.0, 0.5]), np.ones(12)
    assert robust_sd(POWER_DECAY, x, params, wild, ones) < 2 * robust_sd(POWER_DECAY, x, params, residuals, ones)
