"""The interface of laws of the loss against the step that know the LR history."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self, override

from lrscale.laws.annealing.trace import LRTrace
from lrscale.laws.base import FloatArray, Parameter
from lrscale.laws.separable import AbstractSeparableLaw, Inputs
from lrscale.registry import Registry


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline:
    """One run in units of its study: LRs as fractions of a peak, lengths as fractions of a longest run.

    So no bound and no first guess of a law depends on the unit of the LR or of the steps.
    """

    length: FloatArray
    """Length of the block that ends at each knot, 0 for the first, shape (k,)."""
    area: FloatArray
    """Sum of the LRs up to each knot, shape (k,)."""
    drop: FloatArray
    """Fall of the LR over each block, 0 during the warm-up, shape (k,)."""
    one_step: float
    """Length of one optimizer step."""
    points: NDArray[np.intp]
    """Knots at which the loss is wanted, shape (n,)."""

    @classmethod
    def of(cls, trace: LRTrace, step: FloatArray, *, lr_unit: float, step_unit: float) -> Timeline:
        """Prepare a run for losses wanted at `step`, shape (n,)."""
        fine = trace.with_knots(step)
        return cls(
            length=np.concatenate([[0.0], np.diff(fine.step)]) / step_unit,
            area=fine.area / (lr_unit * step_unit),
            drop=fine.drops / lr_unit,
            one_step=1 / step_unit,
            points=np.searchsorted(fine.step, step),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class AbstractScheduleLaw(AbstractSeparableLaw):
    """A law of the loss against the step, bound to the LR histories of some runs.

    As a separable law it has one input, the number of a row: the points of all runs, one run after the other. Its
    parameters are dimensionless; `in_units` turns them into those of the publication.
    """

    inputs: ClassVar[tuple[str, ...]] = ("row",)
    positive_inputs: ClassVar[bool] = False
    reported: ClassVar[tuple[Parameter, ...]]
    """The parameters as published, in the units of LR, step and loss."""
    timelines: tuple[Timeline, ...] = ()
    lr_unit: float = 1.0
    """Peak LR of the study."""
    step_unit: float = 1.0
    """Steps of its longest run."""

    def bind(self, traces: Sequence[LRTrace], steps: Sequence[FloatArray]) -> Self:
        """Return the law for losses at `steps` of each of `traces`, in the same units."""
        units = {"lr_unit": self.lr_unit, "step_unit": self.step_unit}
        timelines = tuple(Timeline.of(trace, step, **units) for trace, step in zip(traces, steps, strict=True))
        return type(self)(timelines=timelines, **units)

    @property
    def rows(self) -> Inputs:
        """The input of all points."""
        return {"row": np.arange(float(sum(one.points.size for one in self.timelines)))}

    @abstractmethod
    def annealing(self, shape: FloatArray) -> FloatArray:
        """Return the term that LR drops add, without its amplitude, at the points of all runs, shape (m, n)."""

    @abstractmethod
    def in_units(self, params: FloatArray) -> FloatArray:
        """Return rows of parameters (m, n_parameters) as `reported`, in the units of LR and step."""

    @override
    def columns(self, shape: FloatArray, x: Inputs) -> FloatArray:
        area = np.concatenate([one.area[one.points] for one in self.timelines])
        terms = np.empty((len(shape), area.size, 3))
        terms[..., 0] = 1.0
        terms[..., 1] = np.exp(-shape[:, :1] * np.log(area))
        terms[..., 2] = -self.annealing(shape)
        return terms[:, x["row"].astype(np.intp)]


SCHEDULE_LAWS: Registry[type[AbstractScheduleLaw]] = Registry("schedule law")
"""Laws of the loss against the step, by name."""
