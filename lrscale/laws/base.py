"""What every fit of this package says: a status with a reason, intervals, and the interface of a law."""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from lrscale.errors import LrscaleError
from lrscale.registry import Registry

FloatArray = NDArray[np.float64]

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation, 1 / Phi^-1(3/4)."""


@final
class FitStatus(enum.Enum):
    """How a fit ended. Only `ok` carries a point estimate; each of the others is an answer with a reason.

    Examples
    --------
    >>> FitStatus.CENSORED_HIGH.value
    'censored_high'
    >>> FitStatus("ok").sentence
    'The data determine the optimum.'
    """

    OK = "ok"
    CENSORED_LOW = "censored_low"
    CENSORED_HIGH = "censored_high"
    TOO_FEW_POINTS = "too_few_points"
    NOT_IDENTIFIABLE = "not_identifiable"
    POOR_FIT = "poor_fit"
    ALL_DIVERGED = "all_diverged"

    @property
    def sentence(self) -> str:
        """The status as a sentence."""
        return _SENTENCES[self]


_SENTENCES = {
    FitStatus.OK: "The data determine the optimum.",
    FitStatus.CENSORED_LOW: "The optimum lies at or below the low end of the measured range; only an upper bound is "
    "known.",
    FitStatus.CENSORED_HIGH: "The optimum lies at or above the high end of the measured range; only a lower bound is "
    "known.",
    FitStatus.TOO_FEW_POINTS: "There are too few distinct points for the model.",
    FitStatus.NOT_IDENTIFIABLE: "The loss does not curve upwards by more than its noise; the optimum cannot be told.",
    FitStatus.POOR_FIT: "The model does not describe the data within their noise.",
    FitStatus.ALL_DIVERGED: "Every run diverged.",
}


@final
@dataclass(frozen=True, slots=True)
class Interval:
    """An interval at a stated confidence; an end that the data leave open is None.

    Parameters
    ----------
    lo, hi : float or None
        The ends, in the unit of the estimate. None: unbounded on that side.
    confidence : float
        Coverage probability in (0, 1).

    Examples
    --------
    >>> Interval(1.0, None, 0.95).contains(7.0)
    True
    >>> Interval.from_dict(Interval(1.0, 2.0, 0.95).to_dict())
    Interval(lo=1.0, hi=2.0, confidence=0.95)
    """

    lo: float | None
    hi: float | None
    confidence: float

    def contains(self, value: float) -> bool:
        """Return whether `value` lies inside, ends included."""
        return (self.lo is None or self.lo <= value) and (self.hi is None or value <= self.hi)

    @property
    def bounded(self) -> bool:
        """Whether both ends are known."""
        return self.lo is not None and self.hi is not None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping; a non-finite end becomes None."""
        return {"lo": finite_or_none(self.lo), "hi": finite_or_none(self.hi), "confidence": self.confidence}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Interval:
        """Rebuild the interval that `to_dict` wrote."""
        return cls(data["lo"], data["hi"], data["confidence"])

    def text(self, digits: int = 3) -> str:
        """Return the interval as people read it, for example ``95 % 1.6e-3 to 2.8e-3``."""
        percent = f"{100 * self.confidence:g} %"
        match (self.lo, self.hi):
            case (None, None):
                return f"{percent} unbounded"
            case (None, float() | int() as hi):
                return f"{percent} below {hi:.{digits}g}"
            case (float() | int() as lo, None):
                return f"{percent} above {lo:.{digits}g}"
            case _:
                return f"{percent} {self.lo:.{digits}g} to {self.hi:.{digits}g}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a law: its name, closed bounds, and what it measures."""

    name: str
    lower: float
    upper: float
    unit: str
    meaning: str
    linear: bool = False
    """Whether the law is linear in it, so that a fit solves for it instead of searching."""


class AbstractLaw(ABC):
    """A formula for the best LR as a function of the batch size, ``lr = amplitude * shape(batch)``.

    A law is a final frozen dataclass without fields. It is linear in the logarithm of its amplitude, which is always
    the first parameter, so a fit only has to search `shape_grid` (variable projection, Golub and Pereyra 1973).
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]
    line_length: ClassVar[int] = 1
    log_spaced: ClassVar[bool] = False

    @property
    def n_parameters(self) -> int:
        """Number of free parameters."""
        return len(self.parameters)

    @abstractmethod
    def shape_grid(self, batch_sizes: FloatArray) -> FloatArray:
        """Return candidate values of the parameters after the first, shape (candidates, n_parameters - 1).

        Candidates come in lines of `line_length`; on a line only the first column changes, in even steps of its value
        or, with `log_spaced`, of its logarithm.
        """

    @abstractmethod
    def log_shape(self, shape_params: FloatArray, batch_sizes: FloatArray) -> FloatArray:
        """Return log(lr / amplitude), shape (candidates, batch sizes), for rows of `shape_grid`."""

    def initial_guesses(self, batch_sizes: FloatArray, lr: FloatArray) -> FloatArray:
        """Return first guesses of all parameters, shape (candidates, n_parameters), one for each shape candidate."""
        shapes = self.shape_grid(batch_sizes)
        offsets = np.mean(np.log(lr) - self.log_shape(shapes, batch_sizes), axis=1)
        return np.column_stack([np.exp(offsets), shapes])

    def predict(self, params: FloatArray, x: FloatArray) -> FloatArray:
        """Return the LR at batch sizes `x`.

        Parameters
        ----------
        params : array of shape (n_parameters,) or (m, n_parameters)
            Values in the order of `parameters`.
        x : array of shape (n,)
            Positive global batch sizes, in the unit of the fit.

        Returns
        -------
        array of shape (n,) or (m, n)
        """
        table = np.atleast_2d(np.asarray(params, dtype=np.float64))
        batch = np.atleast_1d(np.asarray(x, dtype=np.float64))
        lr: FloatArray = table[:, :1] * np.exp(self.log_shape(table[:, 1:], batch))
        return lr[0] if np.ndim(params) == 1 else lr

    def local_slope(self, shape_params: FloatArray, batch_sizes: FloatArray) -> FloatArray:
        """Return d log lr / d log batch, shape (candidates, batch sizes), by a central difference of 1e-4."""
        step = 1e-4
        up = self.log_shape(shape_params, batch_sizes * math.exp(step))
        down = self.log_shape(shape_params, batch_sizes * math.exp(-step))
        return (up - down) / (2 * step)


OPTIMAL_LR_LAWS: Registry[AbstractLaw] = Registry("optimal-LR law")
"""Laws of the best LR against the batch size, by name."""


def finite_or_none(value: float | None) -> float | None:
    """Return `value` as a float, or None where JSON has no number for it."""
    return float(value) if value is not None and math.isfinite(value) else None


def check_confidence(confidence: float) -> float:
    """Return `confidence` if it is a probability strictly between 0 and 1; raise LrscaleError otherwise."""
    if not 0 < confidence < 1:
        raise LrscaleError(f"confidence {confidence} is not between 0 and 1", hint="use a fraction such as 0.95")
    return float(confidence)
