"""The linear scaling rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lrscale.laws.base import AbstractLaw, FloatArray, Parameter


@final
@dataclass(frozen=True, slots=True)
class LinearLaw(AbstractLaw):
    """``lr = amplitude * batch``.

    Keeps the progress of SGD per example while gradient noise dominates.

    References
    ----------
    .. [1] Goyal et al. "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour." arXiv:1706.02677 (2017).

    Examples
    --------
    >>> LinearLaw().predict(np.array([0.001]), np.array([64.0, 256.0])).round(4)
    array([0.064, 0.256])
    """

    name: ClassVar[str] = "linear"
    formula: ClassVar[str] = "lr_at_1 * B"
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
        """Return the log batch size, shape (candidates, batch sizes)."""
        return np.repeat(np.log(batch_sizes)[None, :], len(shape_params), axis=0)
