"""A power law with a free exponent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lrscale.laws.base import AbstractLaw, FloatArray, Parameter

# One step for each 0.05 of the exponent; the fit interpolates the profile between steps, which is exact for this law.
_STEPS = 61


@final
@dataclass(frozen=True, slots=True)
class PowerLaw(AbstractLaw):
    """``lr = amplitude * batch^exponent``.

    Contains the constant (0), square-root (1/2) and linear (1) rules. One power law over a wide range of batch sizes is
    usually wrong: the slope falls towards zero past the critical batch size.

    References
    ----------
    .. [1] Kaplan et al. "Scaling Laws for Neural Language Models." arXiv:2001.08361 (2020), for power laws as a family.

    Examples
    --------
    >>> PowerLaw().predict(np.array([0.01, 0.5]), np.array([64.0, 256.0])).round(4)
    array([0.08, 0.16])
    """

    name: ClassVar[str] = "power"
    formula: ClassVar[str] = "lr_at_1 * B^exponent"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="lr_at_1", lower=0.0, upper=np.inf, unit="LR", meaning="the best LR at batch size 1, extrapolated"
        ),
        Parameter(name="exponent", lower=-1.0, upper=2.0, unit="", meaning="d log lr / d log B"),
    )
    line_length: ClassVar[int] = _STEPS

    def shape_grid(self, batch_sizes: FloatArray) -> FloatArray:
        """Return exponents from -1 to 2, evenly spaced, shape (61, 1)."""
        del batch_sizes
        exponent = self.parameters[1]
        return np.linspace(exponent.lower, exponent.upper, _STEPS)[:, None]

    def log_shape(self, shape_params: FloatArray, batch_sizes: FloatArray) -> FloatArray:
        """Return the exponent times the log batch size, shape (candidates, batch sizes)."""
        shape: FloatArray = shape_params * np.log(batch_sizes)
        return shape
