"""How to split a compute budget between model size and data, after a fitted Chinchilla law."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray, Interval
from lrscale.laws.scale.loss import CHINCHILLA
from lrscale.laws.separable_fit import Estimate, LawFit

FLOPS = 6.0
"""Floating-point operations of training per parameter and token (Kaplan et al. 2020, arXiv:2001.08361)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeOptimal:
    """The model size and data of lowest predicted loss for a budget."""

    compute: float
    """The budget in floating-point operations."""
    params: Estimate
    tokens: Estimate
    loss: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {
            "compute": self.compute,
            "params": self.params.to_dict(),
            "tokens": self.tokens.to_dict(),
            "loss": self.loss.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ComputeOptimal:
        """Rebuild the object that `to_dict` wrote."""
        parts = {name: Estimate.from_dict(data[name]) for name in ("params", "tokens", "loss")}
        return cls(compute=data["compute"], **parts)


def compute_optimal(fit: LawFit, compute: float, *, flops: float = FLOPS) -> ComputeOptimal:
    """Return the best model size, data and loss for a budget.

    With ``compute = flops * params * tokens`` the loss is lowest at ``params = G (compute / flops)^a`` and
    ``tokens = (compute / flops)^(1 - a) / G``, where ``a = beta / (alpha + beta)`` and
    ``G = (alpha A / (beta B))^(1 / (alpha + beta))``.

    Parameters
    ----------
    fit : LawFit
        A fit of the Chinchilla law with draws.
    compute : float
        Positive budget in floating-point operations.
    flops : float, optional
        Operations per parameter and token. Defaults to 6.

    Returns
    -------
    ComputeOptimal
        Values with intervals; a value is None where the fit leaves a parameter undetermined.

    Raises
    ------
    LrscaleError
        When the fit is of another law or was not made, or the budget is not positive.

    References
    ----------
    .. [1] Hoffmann et al. "Training Compute-Optimal Large Language Models." arXiv:2203.15556 (2022), equation 4.

    Examples
    --------
    >>> from lrscale.laws.scale.loss_fit import fit_loss_scaling
    >>> size, data = (axis.ravel() for axis in np.meshgrid([5e7, 2e8, 8e8, 3e9], [1e9, 4e9, 1.6e10, 6.4e10]))
    >>> loss = CHINCHILLA.predict([1.817, 482.0, 0.348, 2085.0, 0.366], {"params": size, "tokens": data})
    >>> best = compute_optimal(fit_loss_scaling(size, data, loss, resamples=100), 5.76e23)
    >>> print(f"{best.params.value:.3g} parameters, {best.tokens.value:.3g} tokens")
    7.23e+10 parameters, 1.33e+12 tokens
    """
    if fit.law != CHINCHILLA.name or not fit.draws:
        raise LrscaleError(
            f"the fit is {fit.law} with status {fit.status.value}: {fit.reason}",
            hint="compute-optimal sizes need a fitted chinchilla law",
        )
    for name, value in (("compute", compute), ("flops", flops)):
        if not (math.isfinite(value) and value > 0):
            raise LrscaleError(f"{name} {value} is not a positive number", hint="give it in floating-point operations")
    draws = optimum_of(np.asarray(fit.draws), compute, flops)
    values = [one.value for one in fit.estimates]
    known = all(value is not None for value in values)
    point = optimum_of(np.array([values], dtype=np.float64), compute, flops)[0] if known else np.full(3, np.nan)
    tail = 50 * (1 - fit.confidence)
    ends = np.percentile(draws, [tail, 100 - tail], axis=0)
    names = (("params", "parameters"), ("tokens", "tokens"), ("loss", "loss"))
    parts = {
        name: Estimate(
            name=name,
            value=float(point[i]) if known else None,
            interval=Interval(float(ends[0, i]), float(ends[1, i]), fit.confidence),
            unit=unit,
        )
        for i, (name, unit) in enumerate(names)
    }
    return ComputeOptimal(compute=compute, **parts)


def optimum_of(params: FloatArray, compute: float, flops: float) -> FloatArray:
    """Return best params, tokens and loss for rows of Chinchilla parameters, shape (m, 3)."""
    _, a, alpha, b, beta = params.T
    budget = math.log(compute / flops)
    # A draw without one of the terms would put the whole budget into the other; the floor keeps it a number.
    balance = np.log(np.maximum(alpha * a, 1e-300)) - np.log(np.maximum(beta * b, 1e-300))
    log_params = (balance + beta * budget) / (alpha + beta)
    log_params = np.clip(log_params, -700.0, 700.0)
    log_tokens = np.clip(budget - log_params, -700.0, 700.0)
    size, data = np.exp(log_params), np.exp(log_tokens)
    loss = params[:, 0] + a * np.exp(-alpha * log_params) + b * np.exp(-beta * log_tokens)
    return np.stack([size, data, loss], axis=1)
