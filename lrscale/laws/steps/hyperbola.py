"""Laws of the steps to a target loss against the batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.laws.base import FloatArray, Parameter
from lrscale.laws.separable import AbstractSeparableLaw, Inputs

# Exponents fitted to public tables lie between 0.97 and 1.07; the bounds leave room for a lack of fit.
LOWEST_EXPONENT, HIGHEST_EXPONENT = 0.3, 3.0

_FEWEST = Parameter(
    name="S_min", lower=0.0, upper=math.inf, unit="steps", meaning="steps at an unlimited batch size", linear=True
)


@final
@dataclass(frozen=True)
class StepsHyperbola(AbstractSeparableLaw):
    """``steps = S_min + E_min / batch``: steps trade against examples, ``(S / S_min - 1) (E / E_min - 1) = 1``.

    The critical batch size is ``E_min / S_min``: there both the steps and the examples are twice their least. It is
    the batch at which doubling stops to halve the steps, and differs between targets: it grows as the loss falls.

    References
    ----------
    .. [1] McCandlish, Kaplan, Amodei. "An Empirical Model of Large-Batch Training." arXiv:1812.06162 (2018), eq. 2.11.

    Examples
    --------
    >>> StepsHyperbola().predict([1000.0, 2.0e6], {"batch": [500.0, 2000.0, 1.0e9]}).round()
    array([5000., 2000., 1000.])
    """

    name: ClassVar[str] = "steps_hyperbola"
    formula: ClassVar[str] = "steps = S_min + E_min / batch"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        _FEWEST,
        Parameter(
            name="E_min",
            lower=0.0,
            upper=math.inf,
            unit="examples",
            meaning="data at the smallest batch sizes, in the unit of the batch",
            linear=True,
        ),
    )
    inputs: ClassVar[tuple[str, ...]] = ("batch",)

    @override
    def columns(self, shape: FloatArray, x: Inputs) -> FloatArray:
        columns = np.stack([np.ones_like(x["batch"]), 1 / x["batch"]], axis=1)
        return np.broadcast_to(columns, (len(shape), *columns.shape))

    @override
    def first_guesses(self, x: Inputs) -> FloatArray:
        return np.empty((1, 0))


@final
@dataclass(frozen=True)
class FreeStepsHyperbola(AbstractSeparableLaw):
    """``steps = S_min + E / batch^gamma``: the hyperbola with a free exponent, which tests whether gamma is 1.

    Examples
    --------
    >>> FreeStepsHyperbola().predict([1000.0, 2.0e6, 1.0], {"batch": [2000.0]})
    array([2000.])
    """

    name: ClassVar[str] = "steps_hyperbola_free"
    formula: ClassVar[str] = "steps = S_min + E / batch^gamma"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        _FEWEST,
        Parameter(
            name="E",
            lower=0.0,
            upper=math.inf,
            unit="steps batch^gamma",
            meaning="cost of a finite batch size",
            linear=True,
        ),
        Parameter(
            name="gamma",
            lower=LOWEST_EXPONENT,
            upper=HIGHEST_EXPONENT,
            unit="",
            meaning="exponent of the batch size",
        ),
    )
    inputs: ClassVar[tuple[str, ...]] = ("batch",)

    @override
    def columns(self, shape: FloatArray, x: Inputs) -> FloatArray:
        powers = np.exp(-shape[:, :1] * np.log(x["batch"]))
        return np.stack([np.ones_like(powers), powers], axis=2)

    @override
    def first_guesses(self, x: Inputs) -> FloatArray:
        return np.array([[0.5], [0.8], [1.0], [1.3], [2.0]])


STEPS_HYPERBOLA = StepsHyperbola()
FREE_STEPS_HYPERBOLA = FreeStepsHyperbola()
