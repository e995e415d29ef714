"""Families of laws that carry optima to another scale: surfaces, power laws through optima, the nearest cell."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from lrscale.laws.base import FloatArray
from lrscale.laws.forecast.answer import FamilyAnswer, Span
from lrscale.laws.forecast.cells import EQUAL, CellTable
from lrscale.laws.forecast.joint_basin import EXPONENT_SD, SHARED, batch_scatter, excess, path
from lrscale.laws.forecast.joint_fit import JointFit
from lrscale.laws.scale import fit_optimum_scaling
from lrscale.laws.scale.optimum_fit import Quantity

MEANINGS = {
    "surface": "one surface through the runs of all cells, optima as powers of scale",
    "constant": "one surface through the runs of all cells, optima that do not move, widened by how far they might",
    "power": "power laws through the optimum of each cell",
    "nearest": "the nearest cell as it is, widened by exponents within -1 and 1",
}
_POWER_DRAWS = 400


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a forecast is wanted."""

    params: float
    horizon: float

    def offsets(self, table: CellTable) -> tuple[float, float]:
        """Return ln(params) and ln(horizon) less the means of the cells."""
        return math.log(self.params) - table.centre[0], math.log(self.horizon) - table.centre[1]

    def unseen(self, table: CellTable) -> list[str]:
        """Return which of ``params`` and ``horizon`` is the same in every cell and another here."""
        size, length = self.offsets(table)
        # Offsets are from the mean, which a value that all cells share is.
        away = {
            "params": not table.several_sizes and abs(size) > EQUAL,
            "horizon": not table.several_lengths and abs(length) > EQUAL,
        }
        return [name for name, is_away in away.items() if is_away]


def surface_answer(
    family: str, fit: JointFit, place: Place, confidence: float, at: float | None = None
) -> FamilyAnswer:
    """Return what a surface says at a place; the interval counts how cells depart from the power law.

    With `at`, ln of a batch, the LR is the best one at that batch.
    """
    size, length = place.offsets(fit.table)
    basis = np.array([1.0, size, length])
    # Its own stream, so that departures at the target are not those of the cells.
    rng = np.random.default_rng([7, len(fit.draws)])
    shared = fit.draws[:, :SHARED].T
    lr = fit.draws[:, :3] @ basis + fit.scatter * rng.standard_normal(len(fit.draws))
    batch = fit.draws[:, 3:6] @ basis + batch_scatter(fit.scatter) * rng.standard_normal(len(fit.draws))
    named = float(fit.theta[:3] @ basis), float(fit.theta[3:6] @ basis)
    if fit.table.one_batch:
        batch = np.full_like(batch, named[1])
    away = np.zeros_like(batch) if at is None else at - batch
    best = lr + path(shared, away)
    if at is not None:
        named = named[0] + float(path(fit.theta[:SHARED], np.array(at - named[1]))), at
    cost = excess(shared, named[0] - lr, named[1] - batch) - excess(shared, best - lr, away)
    return FamilyAnswer(
        family=family,
        meaning=MEANINGS[family],
        lr=span(named[0], best, confidence),
        batch=None if fit.table.one_batch or at is not None else span(named[1], batch, confidence),
        expected_regret=float(np.mean(cost)),
        aicc=fit.aicc,
    )


def widened(still: FamilyAnswer, moving: FamilyAnswer) -> FamilyAnswer:
    """Return the answer of optima that do not move, with an interval that also holds that of optima that do.

    Cells that cannot tell an exponent from zero cannot tell it from a small one either. Without that the interval would
    be the same at any distance from the cells.
    """
    return replace(still, lr=_hull(still.lr, moving.lr), batch=_hull(still.batch, moving.batch))


def _hull(one: Span | None, other: Span | None) -> Span | None:
    if one is None or other is None:
        return one
    return Span(value=one.value, lo=min(one.lo, other.lo), hi=max(one.hi, other.hi))


def power_answer(free: JointFit, place: Place, confidence: float, at: float | None = None) -> FamilyAnswer:
    """Return what power laws through the optima of cells say, each optimum with the variance of its own runs."""
    table = free.table
    lr, batch = free.lr_draws(at), free.optimum_draws()[1]
    variables = {
        "params": [cell.params for cell in table.cells],
        "horizon": [cell.horizon for cell in table.cells],
    }
    answer = FamilyAnswer(family="power", meaning=MEANINGS["power"], lr=None, batch=None)
    wanted: list[tuple[Quantity, FloatArray]] = [("lr", lr)]
    if not table.one_batch and at is None:
        wanted.append(("batch", batch))
    spans: dict[Quantity, Span] = {}
    for quantity, draws in wanted:
        fit = fit_optimum_scaling(
            np.exp(np.median(draws, axis=0)),
            variables,
            variance=np.var(draws, axis=0),
            batch=np.exp(np.median(batch, axis=0)) if at is None else math.exp(at),
            along_best_batch=at is None,
            quantity=quantity,
            horizon="horizon",
            confidence=confidence,
            resamples=_POWER_DRAWS,
            holdout=False,
        )
        if not fit.ok:
            return replace(answer, reason=fit.reason)
        value, lo, hi = fit.predict({"params": [place.params], "horizon": [place.horizon]})
        if not np.isfinite([value[0], lo[0], hi[0]]).all() or lo[0] <= 0:
            return replace(answer, reason=fit.reason)
        spans[quantity] = Span(value=float(value[0]), lo=float(lo[0]), hi=float(hi[0]))
    return replace(answer, lr=spans["lr"], batch=spans.get("batch"))


def nearest(table: CellTable, place: Place) -> int:
    """Return the cell that is nearest in ln(params) and ln(horizon)."""
    size, length = place.offsets(table)
    return int(np.argmin((table.size - size) ** 2 + (table.length - length) ** 2))


def nearest_answer(free: JointFit, place: Place, confidence: float, at: float | None = None) -> FamilyAnswer:
    """Return the optimum of the nearest cell, its interval widened by the prior of exponents over the distance."""
    table = free.table
    i = nearest(table, place)
    size, length = place.offsets(table)
    away = EXPONENT_SD * math.hypot(size - table.size[i], length - table.length[i])
    lr, batch = free.lr_draws(at), free.optimum_draws()[1]
    step = np.random.default_rng([11, len(lr)]).standard_normal((2, len(lr)))
    spans = [
        span(float(np.median(draws[:, i])), draws[:, i] + away * own, confidence)
        for draws, own in zip((lr, batch), step, strict=True)
    ]
    cell = table.cells[i].label
    return FamilyAnswer(
        family="nearest",
        meaning=f"{MEANINGS['nearest']} ({cell})",
        lr=spans[0],
        batch=None if table.one_batch or at is not None else spans[1],
    )


def span(value: float, draws: FloatArray, confidence: float) -> Span:
    """Return exp of a value and of the interval of its draws."""
    tail = 50 * (1 - confidence)
    lo, hi = np.percentile(draws, [tail, 100 - tail])
    ends = np.exp(np.clip([min(lo, value), value, max(hi, value)], -700, 700))
    return Span(value=float(ends[1]), lo=float(ends[0]), hi=float(ends[2]))
