"""How an optimum may depend on model size, horizon and batch: a power law, or one that saturates with the batch."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.laws.base import FloatArray

# The measured exponent of the saturating form is 1.4 on a public grid; 1/2 to 1 by theory (McCandlish et al. 2018).
_ALPHA = (0.1, 5.0)
# How far outside the measured batch sizes a knee is looked for: beyond it the law is a power law to within 2 %.
_BEYOND = math.log(64)
_KNEE_EXPONENT = (-2.0, 3.0)


BATCH = "batch"
"""Name of the variable that holds the batch size."""


class AbstractOptimumLaw(ABC):
    """``log optimum`` as a function of logarithms of the variables, each less its mean over the cells."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def parameters(self) -> tuple[str, ...]:
        """Names in the order of every array of parameters; the first is the log of the optimum at the centre."""

    @property
    @abstractmethod
    def between(self) -> int:
        """Number of parameters that only differences between cells of several batch sizes determine."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bounds, each of shape (p,)."""

    @abstractmethod
    def starts(self, x: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Return parameters from which a search may start, shape (g, p)."""

    @abstractmethod
    def value(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Return the log optimum, shape (m, n), for parameters (m, p) at variables (n, v)."""

    @abstractmethod
    def slopes(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Return the derivative of `value` by each parameter, shape (m, n, p)."""

    @abstractmethod
    def formula(self, quantity: str, centre: Mapping[str, float]) -> str:
        """Return the law in words of its parameters; `centre` holds the geometric mean of each variable."""


def _relative(name: str, centre: Mapping[str, float]) -> str:
    return f"({name} / {centre[name]:.4g})"


@final
@dataclass(frozen=True)
class PowerOptimum(AbstractOptimumLaw):
    """``optimum = c * product of (x_i / x_i0)^e_i``, with x_i0 the geometric mean of the cells."""

    name: ClassVar[str] = "power"
    variables: tuple[str, ...]

    @property
    @override
    def parameters(self) -> tuple[str, ...]:
        return ("log_c", *self.variables)

    @property
    @override
    def between(self) -> int:
        return 1 + sum(name != BATCH for name in self.variables)

    @property
    @override
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        reach = np.full(len(self.variables) + 1, np.inf)
        return -reach, reach

    @override
    def starts(self, x: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        root = np.sqrt(weight)
        design = np.column_stack([np.ones(len(x)), x])
        solved: FloatArray = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
        return solved[None]

    @override
    def value(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        value: FloatArray = theta[:, :1] + theta[:, 1:] @ x.T
        return value

    @override
    def slopes(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        design = np.column_stack([np.ones(len(x)), x])
        return np.broadcast_to(design, (len(theta), *design.shape))

    @override
    def formula(self, quantity: str, centre: Mapping[str, float]) -> str:
        terms = " ".join(f"{_relative(name, centre)}^e_{name}" for name in self.variables)
        return f"{quantity} = c {terms}"


@final
@dataclass(frozen=True)
class SaturatingOptimum(AbstractOptimumLaw):
    """``optimum = c * product of (x_i / x_i0)^e_i * (1 + knee (D / D0)^g / batch)^-alpha``.

    The product runs over the variables other than the batch, D is the horizon. Far below the knee the optimum rises as
    batch^alpha, far above it is flat. Without a horizon among the variables the knee is one number.

    References
    ----------
    .. [1] McCandlish, Kaplan, Amodei. "An Empirical Model of Large-Batch Training." arXiv:1812.06162 (2018), for the
       form at one model size and horizon.
    """

    name: ClassVar[str] = "saturating"
    variables: tuple[str, ...]
    horizon: str | None
    lowest: float
    """Smallest log batch of the cells, less the mean."""
    highest: float

    @property
    def others(self) -> tuple[int, ...]:
        """Positions of the variables other than the batch."""
        return tuple(i for i, name in enumerate(self.variables) if name != BATCH)

    @property
    @override
    def parameters(self) -> tuple[str, ...]:
        knee = ("log_knee", "knee_exponent") if self.horizon else ("log_knee",)
        return ("log_c", *(self.variables[i] for i in self.others), "alpha", *knee)

    @property
    @override
    def between(self) -> int:
        # Alpha shows within a cell. Slices of one cell rarely reach both sides of the knee, so that it counts.
        return len(self.parameters) - 1

    @property
    @override
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        free = 1 + len(self.others)
        rows = [(-np.inf, np.inf)] * free + [_ALPHA, (self.lowest - _BEYOND, self.highest + _BEYOND)]
        if self.horizon:
            rows.append(_KNEE_EXPONENT)
        lower, upper = np.array(rows).T
        return lower, upper

    @override
    def starts(self, x: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        knees = np.linspace(self.lowest - 1.0, self.highest + 1.0, 7)
        exponents = (0.0, 0.6) if self.horizon else (0.0,)
        root = np.sqrt(weight)
        found = []
        for alpha, knee, exponent in itertools.product((0.5, 1.0, 1.8), knees, exponents):
            tail = [alpha, knee, exponent][: 3 if self.horizon else 2]
            theta = np.array([[0.0] * (1 + len(self.others)) + tail])
            design = np.column_stack([np.ones(len(x)), x[:, list(self.others)]])
            left = y - self.value(theta, x)[0]
            theta[0, : design.shape[1]] = np.linalg.lstsq(design * root[:, None], left * root, rcond=None)[0]
            found.append(theta[0])
        table = np.array(found)
        misfit = np.sum(weight * (y - self.value(table, x)) ** 2, axis=1)
        return table[np.argsort(misfit, kind="stable")[:8]]

    def _excess(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Return log of knee over batch, shape (m, n)."""
        first = 2 + len(self.others)
        excess: FloatArray = theta[:, first, None] - x[None, :, self.variables.index(BATCH)]
        if self.horizon:
            excess = excess + theta[:, first + 1, None] * x[None, :, self.variables.index(self.horizon)]
        return excess

    @override
    def value(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        free = 1 + len(self.others)
        level = theta[:, :1] + theta[:, 1:free] @ x[:, list(self.others)].T
        value: FloatArray = level - theta[:, free, None] * np.logaddexp(0.0, self._excess(theta, x))
        return value

    @override
    def slopes(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        free = 1 + len(self.others)
        excess = self._excess(theta, x)
        parts = [np.ones_like(excess)]
        parts += [np.broadcast_to(x[:, i], excess.shape) for i in self.others]
        parts.append(-np.logaddexp(0.0, excess))
        pull = -theta[:, free, None] * np.exp(-np.logaddexp(0.0, -excess))
        parts.append(pull)
        if self.horizon:
            parts.append(pull * x[:, self.variables.index(self.horizon)])
        return np.stack(parts, axis=2)

    @override
    def formula(self, quantity: str, centre: Mapping[str, float]) -> str:
        terms = "".join(f" {_relative(self.variables[i], centre)}^e_{self.variables[i]}" for i in self.others)
        moving = f" {_relative(self.horizon, centre)}^knee_exponent" if self.horizon else ""
        return f"{quantity} = c{terms} (1 + knee{moving} / {BATCH})^-alpha"
