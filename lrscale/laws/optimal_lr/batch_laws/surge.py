"""The surge: the best LR of a sign-like optimizer rises, peaks at a knee, and falls again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lrscale.laws.base import AbstractLaw, FloatArray, Parameter
from lrscale.laws.optimal_lr.batch_laws.saturating import knee_grid

_STEPS = 81


@final
@dataclass(frozen=True, slots=True)
class SurgeLaw(AbstractLaw):
    """``lr = lr_max / (0.5 (sqrt(knee / batch) + sqrt(batch / knee)))``.

    The best step of Adam-like optimizers, whose update is close to the sign of the gradient: it grows like sqrt(batch)
    far below the knee, is highest at the knee and falls like 1 / sqrt(batch) far above it. The derivation needs the
    Hessian's off-diagonal terms to add up; without that the best LR levels off instead (section 3 of the reference).

    References
    ----------
    .. [1] Li et al. "Surge Phenomenon in Optimal Learning Rate and Batch Size Scaling." arXiv:2405.14578 (2024).

    Examples
    --------
    >>> SurgeLaw().predict(np.array([0.02, 256.0]), np.array([64.0, 256.0, 1024.0])).round(4)
    array([0.016, 0.02 , 0.016])
    """

    name: ClassVar[str] = "surge"
    formula: ClassVar[str] = "lr_max / (0.5 * (sqrt(knee / B) + sqrt(B / knee)))"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(name="lr_max", lower=0.0, upper=np.inf, unit="LR", meaning="the highest best LR, at the knee"),
        Parameter(name="knee", lower=0.0, upper=np.inf, unit="batch", meaning="batch size of the highest best LR"),
    )
    line_length: ClassVar[int] = _STEPS
    log_spaced: ClassVar[bool] = True

    def shape_grid(self, batch_sizes: FloatArray) -> FloatArray:
        """Return knees, evenly spaced in their logarithm, shape (81, 1)."""
        return knee_grid(batch_sizes, _STEPS)[:, None]

    def log_shape(self, shape_params: FloatArray, batch_sizes: FloatArray) -> FloatArray:
        """Return -log cosh(log(batch / knee) / 2), shape (candidates, batch sizes)."""
        half = 0.5 * np.abs(np.log(batch_sizes / shape_params))
        # log cosh without overflow.
        shape: FloatArray = -(half + np.log1p(np.exp(-2 * half)) - np.log(2.0))
        return shape
