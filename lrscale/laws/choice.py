"""How laws are compared: the small-sample Akaike criterion, and errors on points that a fit has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from lrscale.laws.base import FloatArray

TIE = 2.0
"""AICc differences below this do not tell two laws apart (Burnham and Anderson 2002, section 2.6)."""


def aicc(residuals: FloatArray, n_parameters: int) -> float | None:
    """Return ``n log(RSS / n) + 2 k + 2 k (k + 1) / (n - k - 1)``, or None for too few points.

    The noise counts as one of the k parameters.

    References
    ----------
    .. [1] Burnham, Anderson. "Model Selection and Multimodel Inference." Springer (2002).

    Examples
    --------
    >>> round(aicc(np.array([0.1, -0.1, 0.1, -0.1]), 1), 2)
    -2.42
    >>> aicc(np.array([0.1, -0.1, 0.1]), 1) is None
    True
    """
    n, k = residuals.size, n_parameters + 1
    if n - k - 1 <= 0:
        return None
    rss = max(float(residuals @ residuals), 1e-300)
    return n * math.log(rss / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """Points that were left out, and what the fit to the others said about them."""

    what: str
    """Which points, for example ``"the largest params"``."""
    n: int
    """How many they are."""
    rms_error: float
    """Root mean square of observed minus predicted, in the unit of the law's residuals."""
    mean_error: float
    """Mean of observed minus predicted, in the same unit; its sign shows a one-sided miss."""
    inside: float | None
    """Fraction of them within the prediction interval; None where the fit gave none."""

    def text(self, points: str = "points") -> str:
        """Return the miss in words; `points` is what one of them is called in the plural."""
        inside = "" if self.inside is None else f", {100 * self.inside:.0f} % inside the interval"
        return f"{self.what} ({self.n} {points}): rms error {self.rms_error:.3g}, mean {self.mean_error:+.3g}{inside}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {
            "what": self.what,
            "n": self.n,
            "rms_error": self.rms_error,
            "mean_error": self.mean_error,
            "inside": self.inside,
        }


def largest_out(size: FloatArray) -> NDArray[np.bool_]:
    """Return which points have the largest value of `size`; to leave them out asks a law to extrapolate."""
    return np.asarray(size >= np.max(size) * (1 - 1e-9))


def near_largest(size: FloatArray, *, factor: float = 2.0, most: float = 1 / 3) -> NDArray[np.bool_]:
    """Return which points lie within a factor of the largest `size`; only the largest where that is too many.

    Parameters
    ----------
    size : array of shape (n,)
        Positive.
    factor : float, optional
        Defaults to 2.
    most : float, optional
        Largest share of the points that may be left out. Defaults to a third.

    Examples
    --------
    >>> near_largest(np.array([1.0, 2.0, 4.0, 8.0, 16.0, 30.0]))
    array([False, False, False, False,  True,  True])
    """
    near = np.asarray(size > np.max(size) / factor)
    return near if near.mean() <= most else largest_out(size)


def leave_group_out(
    groups: Sequence[Hashable], error: Callable[[NDArray[np.bool_]], FloatArray | None]
) -> float | None:
    """Return the root mean square error of predicting each group from the others.

    Parameters
    ----------
    groups : sequence of length n
        Group of each point. Points of one group share what a fit could learn by heart.
    error : callable
        Takes which points to fit to, shape (n,), and returns the errors of the others, or None when it cannot fit.

    Returns
    -------
    float or None
        None with fewer than two groups that could be predicted.
    """
    labels = list(groups)
    errors = []
    for label in dict.fromkeys(labels):
        kept = np.array([own != label for own in labels])
        if not kept.any():
            return None
        missed = error(kept)
        if missed is not None:
            errors.append(missed)
    return float(np.sqrt(np.mean(np.square(np.concatenate(errors))))) if len(errors) > 1 else None
