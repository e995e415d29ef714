"""The saturating law with a free steepness, as for adaptive optimizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lrscale.laws.base import AbstractLaw, FloatArray, Parameter
from lrscale.laws.optimal_lr.batch_laws.saturating import knee_grid

_KNEES = 49
_ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@final
@dataclass(frozen=True, slots=True)
class SaturatingFreeLaw(AbstractLaw):
    """``lr = lr_max / (1 + knee / batch)^alpha``, alpha from 1/2 (square-root rule below the knee) to 1 (linear).

    References
    ----------
    .. [1] McCandlish, Kaplan, Amodei. "An Empirical Model of Large-Batch Training." arXiv:1812.06162 (2018), appendix
       on
       Adam: 0.5 < alpha < 1.

    Examples
    --------
    >>> SaturatingFreeLaw().predict(np.array([0.02, 256.0, 0.5]), np.array([256.0])).round(5)
    array([0.01414])
    """

    name: ClassVar[str] = "saturating_free"
    formula: ClassVar[str] = "lr_max / (1 + knee / B)^alpha"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(name="lr_max", lower=0.0, upper=np.inf, unit="LR", meaning="the best LR at very large batch sizes"),
        Parameter(name="knee", lower=0.0, upper=np.inf, unit="batch", meaning="batch size of the bend"),
        Parameter(name="alpha", lower=0.5, upper=1.0, unit="", meaning="d log lr / d log B far below the knee"),
    )
    line_length: ClassVar[int] = _KNEES
    log_spaced: ClassVar[bool] = True

    def shape_grid(self, batch_sizes: FloatArray) -> FloatArray:
        """Return pairs (knee, alpha), shape (294, 2)."""
        knees = knee_grid(batch_sizes, _KNEES)
        return np.array([(knee, alpha) for alpha in _ALPHAS for knee in knees])

    def log_shape(self, shape_params: FloatArray, batch_sizes: FloatArray) -> FloatArray:
        """Return -alpha log(1 + knee / batch), shape (candidates, batch sizes)."""
        shape: FloatArray = -shape_params[:, 1:] * np.log1p(shape_params[:, :1] / batch_sizes)
        return shape
