"""The interface of laws that are linear in some of their parameters, and the registry of all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray, Parameter
from lrscale.registry import Registry

Inputs = Mapping[str, FloatArray]
"""The variables of a law by name, all of one shape (n,)."""


class AbstractSeparableLaw(ABC):
    """A formula ``y = sum of amplitude_k * column_k(x; shape)`` with amplitudes that are never negative.

    A law is a final frozen dataclass without fields. Parameters marked ``linear`` are the amplitudes, in the order of
    the columns; the others are its shape. Given the shape, the best amplitudes follow by non-negative least squares, so
    that a fit only searches the shape (variable projection; Golub and Pereyra 1973). This turns a search with a
    condition number of 1e11, as for the loss against model size and data, into one of about 10.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]
    """In the order of every array of parameters: amplitudes and shape as the formula names them."""
    inputs: ClassVar[tuple[str, ...]]
    """Names of the variables."""
    positive_inputs: ClassVar[bool] = True
    """Whether every variable must be above zero."""

    @abstractmethod
    def columns(self, shape: FloatArray, x: Inputs) -> FloatArray:
        """Return the terms without their amplitudes.

        Parameters
        ----------
        shape : array of shape (m, n_shape)
            Shape parameters, one row for each candidate.
        x : mapping of str to array of shape (n,)

        Returns
        -------
        array of shape (m, n, n_linear)
        """

    @abstractmethod
    def first_guesses(self, x: Inputs) -> FloatArray:
        """Return shapes from which a search may start, shape (guesses, n_shape): a grid over the plausible range."""

    @cached_property
    def linear(self) -> tuple[int, ...]:
        """Positions of the amplitudes in `parameters`."""
        return tuple(i for i, parameter in enumerate(self.parameters) if parameter.linear)

    @cached_property
    def shaping(self) -> tuple[int, ...]:
        """Positions of the shape parameters in `parameters`."""
        return tuple(i for i, parameter in enumerate(self.parameters) if not parameter.linear)

    @property
    def n_parameters(self) -> int:
        """Number of free parameters."""
        return len(self.parameters)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bounds of the shape parameters, each of shape (n_shape,)."""
        rows = [self.parameters[i] for i in self.shaping]
        return np.array([row.lower for row in rows]), np.array([row.upper for row in rows])

    def join(self, amplitudes: FloatArray, shape: FloatArray) -> FloatArray:
        """Return rows of parameters in the law's order from amplitudes (m, n_linear) and shapes (m, n_shape)."""
        params = np.empty((len(shape), self.n_parameters))
        params[:, list(self.linear)] = amplitudes
        params[:, list(self.shaping)] = shape
        return params

    def read(self, x: Mapping[str, ArrayLike]) -> Inputs:
        """Check and convert the variables.

        Raises
        ------
        LrscaleError
            When one is missing or unknown, lengths differ, or a value is not a (positive) number; the message names
            the variable and the row, counted from 0.
        """
        missing = [name for name in self.inputs if name not in x]
        unknown = [name for name in x if name not in self.inputs]
        if missing or unknown:
            raise LrscaleError(
                f"the {self.name} law needs {', '.join(self.inputs)}, not {', '.join(x) or 'nothing'}",
                hint=f"give exactly {', '.join(self.inputs)}",
            )
        read = {name: np.atleast_1d(np.asarray(x[name], dtype=np.float64)) for name in self.inputs}
        lengths = {values.shape for values in read.values()}
        if len(lengths) != 1 or any(values.ndim != 1 for values in read.values()):
            raise LrscaleError(
                f"the variables of the {self.name} law have shapes {', '.join(str(v.shape) for v in read.values())}",
                hint="give one value of each variable for each point",
            )
        for name, values in read.items():
            wrong = ~np.isfinite(values) | ((values <= 0) if self.positive_inputs else (values < 0))
            if wrong.any():
                row = int(np.argmax(wrong))
                raise LrscaleError(f"row {row}: {name} {values[row]} is not a positive number", hint="drop or mend it")
        return read

    def evaluate(self, params: FloatArray, x: Inputs) -> FloatArray:
        """Return the law at checked variables for rows of parameters, shape (m, n)."""
        columns = self.columns(params[:, list(self.shaping)], x)
        value: FloatArray = np.einsum("mnk,mk->mn", columns, params[:, list(self.linear)])
        return value

    def predict(self, params: ArrayLike, x: Mapping[str, ArrayLike]) -> FloatArray:
        """Return the law's value.

        Parameters
        ----------
        params : array of shape (n_parameters,) or (m, n_parameters)
            Values in the order of `parameters`.
        x : mapping of str to array of shape (n,)
            The variables, by the names in `inputs`.

        Returns
        -------
        array of shape (n,) or (m, n)
        """
        table = np.atleast_2d(np.asarray(params, dtype=np.float64))
        value = self.evaluate(table, self.read(x))
        return value[0] if np.ndim(params) == 1 else value


SEPARABLE_LAWS: Registry[AbstractSeparableLaw] = Registry("law")
"""Every separable law, by name."""
