"""From a table of loss curves to a law of the loss against the step, group by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.laws.annealing import Curve, CurveLawFit, LRTrace, fit_loss_curves
from lrscale.laws.annealing.study import FEWEST_POINTS
from lrscale.sweep.cells import complaint, numbers_in, rows_text
from lrscale.sweep.columns import ColumnMap, map_columns
from lrscale.sweep.groups import Group, split_rows
from lrscale.sweep.read import SweepTable
from lrscale.sweep.result import LawTableFit, Source

LONGEST = "largest"
"""Of ``--holdout``: leave out the longest run."""
_FEWEST_POINTS = 2


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnCurve:
    """A run's curve as measured, beside what the law says of it."""

    name: str
    step: tuple[float, ...]
    loss: tuple[float, ...]
    lr: tuple[float, ...]
    """LR at the same steps."""
    predicted: tuple[float | None, ...]
    """The law's loss at the same steps; None before the end of warm-up, and without a law."""
    lo: float | None = None
    hi: float | None = None
    """Interval of the loss at the last step."""
    held_out: bool = False
    """Whether the fit has not seen it."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DrawnCurve:
        """Rebuild what `to_dict` wrote."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CurvesGroup:
    """The answer of one group of runs with one peak LR."""

    label: str
    key: Mapping[str, Any]
    """Column of ``--by`` to its value."""
    fit: CurveLawFit
    curves: tuple[DrawnCurve, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the curves determine the law."""
        return self.fit.ok

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        return {
            "label": self.label,
            "key": dict(self.key),
            "fit": self.fit.to_dict(),
            "curves": [curve.to_dict() for curve in self.curves],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CurvesGroup:
        """Rebuild what `to_dict` wrote."""
        curves = tuple(DrawnCurve.from_dict(curve) for curve in data["curves"])
        return cls(
            **{**data, "fit": CurveLawFit.from_dict(data["fit"]), "curves": curves, "notes": tuple(data["notes"])}
        )


CurvesTableFit: TypeAlias = LawTableFit[CurvesGroup]
"""Everything that `lrscale fit` found in a table of loss curves."""


def analyse_curves_table(
    table: SweepTable,
    *,
    columns: Mapping[str, str] | None = None,
    by: Sequence[str] = (),
    drop_bad: bool = False,
    holdout: str | None = None,
    confidence: float = 0.95,
) -> CurvesTableFit:
    """Fit a law of the loss against the step, aware of the schedule, to the curves of each group.

    Parameters
    ----------
    table : SweepTable
        One row a logged point: run, step, LR and loss. Rows without a loss say how the LR went.
    columns : mapping of str to str, optional
        Role (``run``, ``step``, ``lr``, ``loss``) to column; the others are guessed, and every guess is said.
    by : sequence of str, optional
        Columns, or roles, whose values separate groups, such as the model. Default: none.
    drop_bad : bool, optional
        Whether to leave out rows without a step or an LR instead of refusing. Default False.
    holdout : str or None, optional
        A run to leave out of the fit and predict; ``"largest"`` is the longest of each group. Default None: the
        schedules are left out in turn, which decides between the laws.
    confidence : float, optional
        Of all intervals. Default 0.95.

    Raises
    ------
    LrscaleError
        For a table that cannot be used as it is; the message names the line and the remedy.
    """
    mapped = map_columns(table.frame, columns, kind="curves")
    known = [str(name) for name in table.frame.columns]
    if "run" not in mapped:
        raise LrscaleError("no column tells the runs apart", hint="name it with --run COLUMN")
    separate = tuple(dict.fromkeys(mapped.resolve(name, known) for name in by))
    for role in ("run", "step", "lr", "loss"):
        if mapped[role] in separate:
            raise LrscaleError(
                f"--by names {mapped[role]}, which holds the {role}", hint="a group holds several values of it"
            )
    rows, notes = _usable(table, mapped, drop_bad)
    frame = table.frame.iloc[rows].reset_index(drop=True)
    step, lr, loss = (numbers_in(frame[mapped[role]]) for role in ("step", "lr", "loss"))
    groups = split_rows(frame, separate, np.lexsort((step,)))
    fitted = []
    seen = False
    for group in groups:
        runs = frame[mapped["run"]].astype(str).to_numpy()
        seen = seen or holdout in (None, LONGEST) or holdout in set(runs[group.rows].tolist())
        fitted.append(_fit_group(group, runs, step, lr, loss, holdout, confidence))
    if not seen:
        names = sorted(set(frame[mapped["run"]].astype(str)))
        raise LrscaleError(f"no run is named {holdout}", hint=did_you_mean(str(holdout), names))
    return LawTableFit(
        kind="curves",
        source=Source(
            file=table.path.name,
            format=table.format,
            sha256=table.sha256,
            n_rows=len(table.frame),
            n_runs=sum(len(group.curves) for group in fitted),
            n_diverged=sum(not np.isfinite(curve.loss).all() for group in fitted for curve in group.curves),
            columns=dict(mapped.names),
            guessed=mapped.guessed,
            by=separate,
            batch_unit=None,
            notes=notes,
            tolerance=0.0,
        ),
        warnings=(),
        groups=tuple(fitted),
        confidence=confidence,
    )


def _usable(table: SweepTable, columns: ColumnMap, drop_bad: bool) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    raw = table.frame
    bad = np.zeros(len(raw), dtype=bool)
    told = []
    for role in ("step", "lr"):
        values = numbers_in(raw[columns[role]])
        wrong = ~(np.isfinite(values) & (values >= 0))
        if wrong.any():
            told.append(complaint(role, columns[role], table.place, table.lines[wrong], raw[columns[role]][wrong]))
            bad |= wrong
    if told and not drop_bad:
        raise LrscaleError(
            f"{table.path.name}: {'; '.join(told)}",
            hint=f"mend or remove them, or leave {rows_text(int(bad.sum()))} out with --drop-bad",
        )
    notes = (f"{rows_text(int(bad.sum()))} dropped: {'; '.join(told)}.",) if told else ()
    kept = np.flatnonzero(~bad)
    if not kept.size:
        raise LrscaleError(f"{table.path.name}: none of the {len(raw):,} rows is left", hint=" ".join(notes) or None)
    return kept, notes


def _fit_group(
    group: Group,
    runs: npt.NDArray[np.object_],
    step: npt.NDArray[np.float64],
    lr: npt.NDArray[np.float64],
    loss: npt.NDArray[np.float64],
    holdout: str | None,
    confidence: float,
) -> CurvesGroup:
    curves, drawn, notes = [], {}, []
    for name in dict.fromkeys(runs[group.rows].tolist()):
        rows = group.rows[runs[group.rows] == name]
        # Loggers write a step twice at the end of an epoch; its last row has it all.
        _, last = np.unique(step[rows][::-1], return_index=True)
        rows = rows[::-1][last]
        measured = rows[(step[rows] > 0) & ~np.isnan(loss[rows])]
        if rows.size < _FEWEST_POINTS or measured.size < _FEWEST_POINTS:
            notes.append(f"Run {name} is left out: it has {rows_text(int(measured.size))} with a loss.")
            continue
        trace = LRTrace.from_points(step[rows], lr[rows])
        curve = Curve(name=name, trace=trace, step=step[measured], loss=loss[measured])
        if curve.fitted_step.size < FEWEST_POINTS:
            notes.append(f"Run {name} is left out: it has {curve.fitted_step.size} losses after its warm-up.")
            continue
        curves.append(curve)
        drawn[name] = (curve, lr[measured])
    if not curves:
        raise LrscaleError(
            f"no run of {group.label} has {FEWEST_POINTS} losses after its warm-up", hint="is --loss right?"
        )
    held = _held_out(curves, holdout)
    fit = fit_loss_curves(curves, held_out=held, confidence=confidence)
    return CurvesGroup(
        label=group.label,
        key=dict(group.key),
        fit=fit,
        curves=tuple(_drawn(fit, curve, rate, curve.name == held) for curve, rate in drawn.values()),
        notes=tuple(notes),
    )


def _held_out(curves: Sequence[Curve], holdout: str | None) -> str | None:
    if holdout == LONGEST:
        return max(curves, key=lambda curve: curve.trace.last_step).name
    return holdout if any(curve.name == holdout for curve in curves) else None


def _drawn(fit: CurveLawFit, curve: Curve, lr: npt.NDArray[np.float64], held_out: bool) -> DrawnCurve:
    predicted: list[float | None] = [None] * curve.step.size
    lo = hi = None
    if fit.params:
        after = np.flatnonzero(curve.step >= max(curve.start, 1.0))
        try:
            value, low, high = fit.predict(curve.trace, curve.step[after])
        except LrscaleError:
            # A run of another peak LR: the law says nothing about it.
            after = after[:0]
        else:
            lo, hi = float(low[-1]), float(high[-1])
            for place, one in zip(after.tolist(), value.tolist(), strict=True):
                predicted[place] = one
    return DrawnCurve(
        name=curve.name,
        step=tuple(curve.step.tolist()),
        loss=tuple(curve.loss.tolist()),
        lr=tuple(lr.tolist()),
        predicted=tuple(predicted),
        lo=lo,
        hi=hi,
        held_out=held_out,
    )
