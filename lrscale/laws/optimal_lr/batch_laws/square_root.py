"""The square-root scaling rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lrscale.laws.base import AbstractLaw, FloatArray, Parameter


@final
@dataclass(frozen=True, slots=True)
class SquareRootLaw(AbstractLaw):
    """``lr = amplitude * sqrt(batch)``.

    Keeps the covariance of the update of an adaptive optimizer while gradient noise dominates.

    References
    ----------
    .. [1] Malladi, Lyu, Panigrahi, Arora. "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms."
       arXiv:2205.10287 (2022).

    Examples
    --------
    >>> SquareRootLaw().predict(np.array([0.01]), np.array([64.0, 256.0])).round(4)
    array([0.08, 0.16])
    """

    name: ClassVar[str] = "square_root"
    formula: ClassVar[str] = "lr_at_1 * sqrt(B)"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="lr_at_1", lower=0.0, upper=np.inf, unit="LR", meaning="the best LR at batch size 1, extrapolated"
        ),
    )

    def shape_grid(self, batch_sizes: FloatArray) -> FloatArray:
        """Return the one candidate, without free parameters: shape (1, 0)."""
        del batch_sizes
        return np.empty((1, 0))

    def log_shape(self, shape_params: FloatArray, batch_sizes: FloatArray) -> FloatArray:
        """Return half the log batch size, shape (candidates, batch sizes)."""
        return np.repeat(0.5 * np.log(batch_sizes)[None, :], len(shape_params), axis=0)
