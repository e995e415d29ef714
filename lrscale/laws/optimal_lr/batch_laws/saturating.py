"""The best LR rises with the batch size and levels off past a knee."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lrscale.laws.base import AbstractLaw, FloatArray, Parameter

# The knee is looked for from 1/64 of the smallest to 64 times the largest batch size: further out the law cannot be
# told from the constant or the linear rule (within 2 %), and only a bound on the knee is reported.
KNEE_REACH = 64.0
_STEPS = 81


@final
@dataclass(frozen=True, slots=True)
class SaturatingLaw(AbstractLaw):
    """``lr = lr_max / (1 + knee / batch)``.

    The best step of SGD on a quadratic with gradient noise; the knee is then the noise scale. Linear in the batch size
    far below the knee, constant far above it.

    References
    ----------
    .. [1] McCandlish, Kaplan, Amodei. "An Empirical Model of Large-Batch Training." arXiv:1812.06162 (2018).

    Examples
    --------
    >>> SaturatingLaw().predict(np.array([0.02, 256.0]), np.array([256.0, 768.0])).round(4)
    array([0.01 , 0.015])
    """

    name: ClassVar[str] = "saturating"
    formula: ClassVar[str] = "lr_max / (1 + knee / B)"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(name="lr_max", lower=0.0, upper=np.inf, unit="LR", meaning="the best LR at very large batch sizes"),
        Parameter(
            name="knee", lower=0.0, upper=np.inf, unit="batch", meaning="batch size at which the best LR is half of it"
        ),
    )
    line_length: ClassVar[int] = _STEPS
    log_spaced: ClassVar[bool] = True

    def shape_grid(self, batch_sizes: FloatArray) -> FloatArray:
        """Return knees, evenly spaced in their logarithm, shape (81, 1)."""
        return knee_grid(batch_sizes, _STEPS)[:, None]

    def log_shape(self, shape_params: FloatArray, batch_sizes: FloatArray) -> FloatArray:
        """Return -log(1 + knee / batch), shape (candidates, batch sizes)."""
        shape: FloatArray = -np.log1p(shape_params / batch_sizes)
        return shape


def knee_grid(batch_sizes: FloatArray, steps: int) -> FloatArray:
    """Return knees from 1/64 of the smallest to 64 times the largest batch size, evenly spaced in their logarithm."""
    return np.geomspace(np.min(batch_sizes) / KNEE_REACH, np.max(batch_sizes) * KNEE_REACH, steps)
