"""What a forecast says: the setting of every family of laws, how far it missed a cell left out, and the one chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from lrscale.laws.base import FitStatus


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A number with its interval, both ends always known (`Interval` leaves them open where data do)."""

    value: float
    lo: float
    hi: float

    @property
    def ratio(self) -> float:
        """Upper over lower end, infinite where the lower end is 0."""
        return self.hi / self.lo if self.lo > 0 else float("inf")

    def text(self, digits: int = 3) -> str:
        """Return the number and its interval as people read them."""
        return f"{self.value:.{digits}g} ({self.lo:.{digits}g} to {self.hi:.{digits}g})"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """What a family said of the largest cell when that was left out, against what its runs say."""

    cell: str
    lr_factor: float
    """Forecast best LR over the best LR of the cell."""
    batch_factor: float | None
    """The same of the batch; None where every run has the same."""
    regret: float
    """Loss at the forecast setting above the lowest, by the surface fitted to all runs."""
    inside: bool
    """Whether the interval of the LR held the cell's own best LR."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyAnswer:
    """The forecast of one family of laws."""

    family: str
    meaning: str
    lr: Span | None
    """None where the cells do not carry the family; `reason` says why."""
    batch: Span | None
    reason: str = ""
    expected_regret: float | None = None
    """Mean over the draws of the loss at the setting above the lowest; None where the family has no surface."""
    miss: Miss | None = None
    aicc: float | None = None
    """Of surfaces, fitted to the same runs; differences count."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CellOptimum:
    """The best setting of one cell, as shapes shared by all cells and its own runs tell it."""

    label: str
    params: float
    horizon: float
    lr: Span
    batch: Span | None
    loss: float
    """Fitted loss at the best setting."""
    n_runs: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The best LR, batch and loss at a target scale, or why they cannot be told."""

    status: FitStatus
    reason: str
    """A sentence."""
    needs: str = ""
    """What would tell more; empty unless something is missing."""
    params: float
    horizon: float
    """Length of the target, in the unit of the cells."""
    family: str | None = None
    """The family chosen; None when nothing can be told."""
    lr: Span | None = None
    batch: Span | None = None
    loss: Span | None = None
    """Loss at the best setting, of the law of the losses against scale."""
    loss_reason: str = ""
    """Why there is no loss, or which law it is of."""
    fixed_batch: float | None = None
    """Batch size at which the LR holds, where it is not the best batch: that of every run, one asked for, or the end of
    those tried at which the best one lies."""
    families: tuple[FamilyAnswer, ...] = ()
    cells: tuple[CellOptimum, ...] = ()
    exponents: Mapping[str, Span] | None = None
    """Of the surface: ``lr_params``, ``lr_horizon``, ``batch_params``, ``batch_horizon``."""
    notes: tuple[str, ...] = ()
    confidence: float = 0.95

    @property
    def ok(self) -> bool:
        """Whether there is a setting with a useful interval."""
        return self.status is FitStatus.OK

    @property
    def chosen(self) -> FamilyAnswer | None:
        """The answer of the family chosen."""
        return next((one for one in self.families if one.family == self.family), None)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `from_dict` rebuilds an equal object."""
        plain = asdict(self)
        plain["status"] = self.status.value
        plain["families"] = [asdict(one) for one in self.families]
        plain["cells"] = [asdict(one) for one in self.cells]
        plain["exponents"] = (
            None if self.exponents is None else {name: asdict(span) for name, span in self.exponents.items()}
        )
        plain["notes"] = list(self.notes)
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Forecast:
        """Rebuild what `to_dict` wrote."""
        values = dict(data)
        values["status"] = FitStatus(data["status"])
        for name in ("lr", "batch", "loss"):
            values[name] = _span(data[name])
        values["families"] = tuple(_family(one) for one in data["families"])
        values["cells"] = tuple(
            CellOptimum(**{**one, "lr": Span(**one["lr"]), "batch": _span(one["batch"])}) for one in data["cells"]
        )
        if data["exponents"] is not None:
            values["exponents"] = {name: Span(**span) for name, span in data["exponents"].items()}
        values["notes"] = tuple(data["notes"])
        return cls(**values)


def _span(plain: Mapping[str, Any] | None) -> Span | None:
    return None if plain is None else Span(**plain)


def _family(plain: Mapping[str, Any]) -> FamilyAnswer:
    miss = None if plain["miss"] is None else Miss(**plain["miss"])
    return FamilyAnswer(**{**plain, "lr": _span(plain["lr"]), "batch": _span(plain["batch"]), "miss": miss})
