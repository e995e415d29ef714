"""The convex bound: what theory says about the shape of a schedule, with nothing to fit.

For stochastic subgradient descent on a convex function the loss of the last iterate is bounded by a function of the
schedule alone. The bound ranks shapes and carries a tuned LR from one shape to another; it predicts no loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConvexBound:
    """The bound ``T1 / base_lr + (T2 + T3) base_lr`` of one schedule shape."""

    steps: int
    """Steps with an LR above zero."""
    distance_term: float
    """T1: grows with the distance to the solution, falls with the sum of the LRs."""
    noise_term: float
    """T2: the gradients weighted by squared LRs."""
    last_iterate_term: float
    """T3: what it costs to use the last iterate instead of an average; a decay makes it small."""
    best_base_lr: float
    """sqrt(T1 / (T2 + T3)): the factor of the shape that makes the bound least."""
    rate: float
    """2 sqrt(T1 (T2 + T3)): the bound at that factor. The lower, the better the shape."""

    def at(self, base_lr: ArrayLike) -> FloatArray:
        """Return the bound for factors of the shape, any shape of positive numbers."""
        factor = np.asarray(base_lr, dtype=np.float64)
        value: FloatArray = self.distance_term / factor + (self.noise_term + self.last_iterate_term) * factor
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ConvexBound:
        """Rebuild the bound that `to_dict` wrote."""
        return cls(**data)


def convex_bound(shape: ArrayLike, *, gradient_norm: ArrayLike = 1.0, distance: float = 1.0) -> ConvexBound:
    """Return the bound of a schedule shape.

    ``Omega = D^2 / (2 sum eta) + sum eta^2 g^2 / (2 sum eta) + 1/2 sum_(k<T) (eta_k / sum_(t>k) eta_t)
    (sum_(t>=k) eta_t^2 g_t^2 / sum_(t>=k) eta_t)``.

    Parameters
    ----------
    shape : array-like of shape (T,)
        LR of every step up to a common factor; finite, never negative. Steps at LR zero at the end move nothing and are
        left out.
    gradient_norm : float or array-like of shape (T,), optional
        Bound g on the norm of the gradients. Defaults to 1.
    distance : float, optional
        Distance D from the first iterate to a solution. Defaults to 1. Ratios of best LRs do not depend on it.

    Returns
    -------
    ConvexBound

    Raises
    ------
    LrscaleError
        For a wrong LR, named by its row, or a norm or distance that is not positive.

    References
    ----------
    .. [1] Schaipp, Hägele, Taylor, Simsekli, Bach. "The surprising agreement between convex optimization theory and
       learning-rate scheduling for large model training." arXiv:2501.18965 (2025).

    Examples
    --------
    >>> t = np.arange(1000)
    >>> constant, linear = convex_bound(np.ones(1000)), convex_bound(1 - t / 1000)
    >>> linear.rate < constant.rate
    True
    """
    lr = np.atleast_1d(np.asarray(shape, dtype=np.float64))
    if lr.ndim != 1 or not lr.size:
        raise LrscaleError(f"a schedule of shape {lr.shape} has no steps", hint="give the LR of every step")
    wrong = ~np.isfinite(lr) | (lr < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise LrscaleError(f"row {row}: LR {lr[row]} is not a number from 0 up", hint="mend the schedule")
    norm = (
        np.broadcast_to(np.asarray(gradient_norm, dtype=np.float64), lr.shape)
        if np.ndim(gradient_norm) == 0
        else (np.asarray(gradient_norm, dtype=np.float64))
    )
    if norm.shape != lr.shape or not (np.isfinite(norm) & (norm > 0)).all():
        raise LrscaleError(
            f"gradient_norm of shape {norm.shape} is not one positive number or one for each of {lr.size} steps",
            hint="leave it out to compare shapes",
        )
    if not (math.isfinite(distance) and distance > 0):
        raise LrscaleError(f"distance {distance} is not positive", hint="leave it out to compare shapes")
    moving = np.flatnonzero(lr)
    if not moving.size:
        raise LrscaleError(f"all {lr.size} LRs are 0", hint="give a schedule that moves")
    lr, norm = lr[: moving[-1] + 1], norm[: moving[-1] + 1]
    squares = lr**2 * norm**2
    # Sums from each step to the end; the last steps decide, so they are added first.
    left = np.cumsum(lr[::-1])[::-1]
    squares_left = np.cumsum(squares[::-1])[::-1]
    total = float(left[0])
    first = distance**2 / (2 * total)
    second = float(squares_left[0]) / (2 * total)
    third = 0.5 * float(np.sum(lr[:-1] / left[1:] * squares_left[:-1] / left[:-1]))
    return ConvexBound(
        steps=int(lr.size),
        distance_term=first,
        noise_term=second,
        last_iterate_term=third,
        best_base_lr=math.sqrt(first / (second + third)),
        rate=2 * math.sqrt(first * (second + third)),
    )


def carried_base_lr(best_base_lr: float, *, tuned: ArrayLike, planned: ArrayLike) -> float:
    """Carry a tuned LR to another schedule shape or horizon by the ratio of the bounds' best LRs.

    Parameters
    ----------
    best_base_lr : float
        Best factor of the `tuned` shape, positive. For shapes with a peak of 1 that is the peak LR.
    tuned, planned : array-like of shape (T,) and (T',)
        LR of every step up to a factor, as in `convex_bound`.

    Returns
    -------
    float
        Best factor of the `planned` shape. In runs of 50k steps of a 124M model the tuned LRs of cooldowns over the
        last 10, 20 and 40 % stood as 1 : 1.22 : 1.60; the bound says 1 : 1.12 : 1.32. It errs on the small side.

    Examples
    --------
    >>> round(carried_base_lr(1e-3, tuned=np.ones(1000), planned=np.ones(4000)), 5)
    0.00046
    """
    if not (math.isfinite(best_base_lr) and best_base_lr > 0):
        raise LrscaleError(f"best_base_lr {best_base_lr} is not positive", hint="give the tuned LR")
    return best_base_lr * convex_bound(planned).best_base_lr / convex_bound(tuned).best_base_lr
