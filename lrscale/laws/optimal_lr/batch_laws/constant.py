"""The best LR does not depend on the batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lrscale.laws.base import AbstractLaw, FloatArray, Parameter


@final
@dataclass(frozen=True, slots=True)
class ConstantLaw(AbstractLaw):
    """``lr = amplitude`` at every batch size.

    Expected far above the critical batch size, where gradient noise no longer limits the step.

    References
    ----------
    .. [1] McCandlish, Kaplan, Amodei. "An Empirical Model of Large-Batch Training." arXiv:1812.06162 (2018).

    Examples
    --------
    >>> ConstantLaw().predict(np.array([0.1]), np.array([64.0, 256.0])).round(4)
    array([0.1, 0.1])
    """

    name: ClassVar[str] = "constant"
    formula: ClassVar[str] = "lr"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(name="lr", lower=0.0, upper=np.inf, unit="LR", meaning="the best LR"),
    )

    def shape_grid(self, batch_sizes: FloatArray) -> FloatArray:
        """Return the one candidate, without free parameters: shape (1, 0)."""
        del batch_sizes
        return np.empty((1, 0))

    def log_shape(self, shape_params: FloatArray, batch_sizes: FloatArray) -> FloatArray:
        """Return zeros, shape (candidates, batch sizes)."""
        return np.repeat(np.zeros(batch_sizes.size)[None, :], len(shape_params), axis=0)
