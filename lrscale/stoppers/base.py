"""What every stopper is: bounds on the loss of a trial, from what earlier trials had at the same validation."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.registry import Registry

Judged = Literal["latest", "best"]
"""Which loss of a trial a bound is held against: that of the validation, or the lowest up to it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What a stopper knows of an earlier trial."""

    number: int
    """Its place in the order in which trials were asked for, from 0."""
    losses: Mapping[int, float]
    """Finite loss at each validation that it reached, by the number of the validation, from 1."""
    completed: bool
    """Whether it was not ended by a stopper."""
    lr: float | None = None
    """Peak LR; None where that is not known."""
    batch_size: int | None = None
    """Global batch size; None where that is not known."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a stopper may know of the trial that it judges, besides its number."""

    lr: float
    """Peak LR."""
    batch_size: int
    """Global batch size."""
    decayed: Mapping[int, float]
    """Share of the decay of its LR that is over at each validation, by number, in [0, 1]. Under a constant LR, whose
    losses on the way are those of runs that end there, the share of the horizon."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The loss above which a trial ends at a validation.

    Examples
    --------
    >>> Bound(loss=2.5, among=6)
    Bound(loss=2.5, among=6)
    """

    loss: float
    among: int
    """Earlier trials that it was taken from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstractStopper(ABC):
    """A rule, whose settings are its fields.

    Most rules are those of Optuna's pruners. All are put as bounds, so that whoever trains needs nothing but numbers:
    a trial ends where its loss is above the bound of a validation. Bounds follow from the earlier trials alone, and
    with the same ones the same trial ends at the same validation, on every rank.
    """

    judged: ClassVar[Judged]

    @abstractmethod
    def bounds(
        self, number: int, earlier: Sequence[Earlier], validations: int, candidate: Candidate | None = None
    ) -> dict[int, Bound]:
        """Return the bound of each validation that has one.

        Parameters
        ----------
        number : int
            Place of the trial in the order in which trials were asked for, from 0.
        earlier : sequence of Earlier
            Trials that have ended.
        validations : int
            Validations over the horizon, at least 1. The last one is at the horizon and has no bound: there a trial
            is complete.
        candidate : Candidate or None, optional
            The trial. Default None: nothing is known of it but its number.

        Returns
        -------
        dict of int to Bound
            By the number of the validation, from 1 to ``validations - 1``.
        """

    def usual_shares(self, trials: int, validations: int) -> list[float] | None:
        """Return the share of the horizon that each of some trials usually trains, in their order; for estimates.

        Default None: the rule is played on drawn losses, which stand at every validation as at the horizon.
        """
        del trials, validations
        return None


STOPPERS: Registry[type[AbstractStopper]] = Registry("stopper")


def build_stopper(name: str, settings: Mapping[str, Any] | None = None) -> AbstractStopper:
    """Return the registered stopper.

    Raises
    ------
    LrscaleError
        For an unknown name or setting, and for a setting that is no whole number within its range.

    Examples
    --------
    >>> build_stopper("hyperband", {"reduction_factor": 2})
    Hyperband(reduction_factor=2, first=1)
    """
    kind = STOPPERS[name]
    known = [field.name for field in dataclasses.fields(kind)]
    for setting, value in (settings or {}).items():
        if setting not in known:
            raise LrscaleError(f"stopper {name} has no setting {setting}", hint=did_you_mean(setting, known))
        if not isinstance(value, int) or isinstance(value, bool):
            raise LrscaleError(f"{setting} of stopper {name} must be a whole number, not {value!r}")
    return kind(**(settings or {}))


def require_at_least(name: str, value: int, least: int) -> None:
    """Raise unless a setting is at least some number."""
    if value < least:
        raise LrscaleError(f"{name} must be at least {least}, not {value}")
