"""What each training step says of its gradient noise: two sums over its micro-gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GradientSums:
    """Two numbers of each measured step: the mean squared norm of its micro-gradients, and that of their mean.

    A step has n micro-gradients, one for each backward of each rank, each the mean over b examples. Micro-gradients of
    unequal size are described exactly by their harmonic mean size, because a step averages them with equal weights.

    Parameters
    ----------
    step : array-like of shape (steps,)
        Number of the optimizer step, increasing.
    count : array-like of shape (steps,)
        Micro-gradients n of the step, at least 2.
    examples : array-like of shape (steps,)
        Harmonic mean of the examples b of a micro-gradient, positive.
    mean_square : array-like of shape (steps,)
        mean_i ``|g_i|^2``, at least 0.
    square_mean : array-like of shape (steps,)
        ``|mean_i g_i|^2``, at least 0.

    Raises
    ------
    LrscaleError
        When the columns differ in length or hold what is said to be impossible above.

    Examples
    --------
    >>> sums = GradientSums(step=[0], count=[4], examples=[8], mean_square=[5.0], square_mean=[2.0])
    >>> sums.squared_gradient, sums.noise_trace  # (4 x 2 - 5) / 3 and 8 x 4 x (5 - 2) / 3
    (array([1.]), array([32.]))
    """

    step: FloatArray
    count: FloatArray
    examples: FloatArray
    mean_square: FloatArray
    square_mean: FloatArray

    def __init__(
        self,
        *,
        step: ArrayLike,
        count: ArrayLike,
        examples: ArrayLike,
        mean_square: ArrayLike,
        square_mean: ArrayLike,
    ) -> None:
        columns = {
            "step": step,
            "count": count,
            "examples": examples,
            "mean_square": mean_square,
            "square_mean": square_mean,
        }
        read = {name: np.atleast_1d(np.asarray(column, dtype=np.float64)) for name, column in columns.items()}
        if len({column.shape for column in read.values()}) != 1 or read["step"].ndim != 1:
            shapes = ", ".join(f"{name} {column.shape}" for name, column in read.items())
            raise LrscaleError(f"the columns of the gradient sums differ in shape: {shapes}")
        for name, least in (("count", 2), ("examples", 1e-300), ("mean_square", 0), ("square_mean", 0)):
            bad = ~(np.isfinite(read[name]) & (read[name] >= least))
            if bad.any():
                raise LrscaleError(
                    f"{name} is {read[name][bad][0]:g} at step {read['step'][bad][0]:g}",
                    hint="leave out steps with one micro-gradient, and steps whose gradients are not finite",
                )
        for name, column in read.items():
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return int(self.step.size)

    def __getitem__(self, rows: slice) -> GradientSums:
        return GradientSums(**{name: column[rows] for name, column in self._columns().items()})

    @property
    def squared_gradient(self) -> FloatArray:
        """Unbiased estimate of ``|G|^2`` at each step, ``(n q - s) / (n - 1)``; often negative, and never clipped.

        The U-statistic ``sum_{i != j} g_i . g_j / (n (n - 1))``; for n = 2 the two-batch estimator of McCandlish et al.
        2018 (arXiv:1812.06162, appendix A.1).
        """
        n = self.count
        return (n * self.square_mean - self.mean_square) / (n - 1)

    @property
    def noise_trace(self) -> FloatArray:
        """Unbiased estimate of tr(Sigma) of one example at each step, ``b n (s - q) / (n - 1)``."""
        n = self.count
        return self.examples * n * (self.mean_square - self.square_mean) / (n - 1)

    @property
    def weight(self) -> FloatArray:
        """Weight of each step in both averages, ``b^2 n (n - 1)``.

        The inverse variance of `squared_gradient`, up to a factor, where noise outweighs the gradient, which is where
        precision is scarce. It depends on the layout alone, so that the averages stay unbiased.
        """
        return self.examples**2 * self.count * (self.count - 1)

    def to_dict(self) -> dict[str, list[float]]:
        """Return the columns as lists."""
        return {name: column.tolist() for name, column in self._columns().items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, ArrayLike]) -> GradientSums:
        """Rebuild what `to_dict` wrote."""
        return cls(**data)

    def _columns(self) -> dict[str, FloatArray]:
        return {
            "step": self.step,
            "count": self.count,
            "examples": self.examples,
            "mean_square": self.mean_square,
            "square_mean": self.square_mean,
        }
