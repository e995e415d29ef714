"""From the cells of smaller models and shorter horizons to a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, check_confidence
from lrscale.laws.forecast.answer import CellOptimum, FamilyAnswer, Forecast, Miss, Span
from lrscale.laws.forecast.cells import CellTable, ForecastCell, tabulate
from lrscale.laws.forecast.families import (
    MEANINGS,
    Place,
    nearest_answer,
    power_answer,
    span,
    surface_answer,
    widened,
)
from lrscale.laws.forecast.joint_basin import SHARED, slope_at
from lrscale.laws.forecast.joint_fit import JointFit, fit_jointly, tolerance_of
from lrscale.laws.forecast.losses import loss_at
from lrscale.laws.forecast.words import batch_end, cells_needed, edge_notes

MOST_RATIO = 10.0
"""An interval of the LR with a larger upper over lower end says nothing that a guess does not."""
# Two LRs show no basin.
_LEAST_RUNS = 3
# A scatter of a factor of e leaves every cell its own optimum.
_FREE = (1.0,)
# Which family comes first where none is better: all runs at once before optima alone, laws that move before one cell.
_TRUST = ("surface", "power", "constant", "nearest")


def forecast(
    cells: Sequence[ForecastCell],
    *,
    params: float,
    horizon: float,
    batch: float | None = None,
    tolerance: float = 1e-3,
    confidence: float = 0.95,
    random_seed: int = 0,
    hold_out: bool = True,
) -> Forecast:
    """Forecast the best LR, batch and loss at a target scale.

    Parameters
    ----------
    cells : sequence of ForecastCell
        Runs over LR, and batch size where it is free, at several model sizes and horizons; eight well chosen ones a
        cell are enough.
    params, horizon : float
        The target, in the units of the cells.
    batch : float or None, optional
        Batch size of the target: the LR is then the best one at it. Default None: at the best batch; where that lies
        at the same end of the batches tried in more than half of the cells, at that end. Where every run has the same
        batch size the LR holds at that one, whatever is asked for.
    tolerance : float, optional
        Relative loss difference taken for the noise of a run. Defaults to 1e-3.
    confidence : float, optional
        Of all intervals. Defaults to 0.95.
    random_seed : int, optional
        Seed of the draws of surfaces and losses; departures of the target's own are the same for every seed. Defaults
        to 0.
    hold_out : bool, optional
        Whether every family forecasts the largest cell from the others, which decides between them. Defaults to True.

    Returns
    -------
    Forecast
        Status `not_identifiable` when the batch size changes between cells and not within them (the best LR against
        the horizon would be that of the batch), or when the interval of the LR spans more than a factor of 10; it then
        says which cells are needed. `too_few_points` without two cells of three runs.

    Raises
    ------
    LrscaleError
        When a number of the target is not positive, or the confidence not between 0 and 1.

    Notes
    -----
    Families: one surface through all runs whose optimum follows powers of scale, or stays; power laws through the
    optimum of each cell; the nearest cell. Chosen is the one whose setting for the largest cell, forecast without it,
    costs least there; within the noise of a run the surface comes first. A surface whose optimum stays also needs the
    lower AICc. On a public sweep of 12 cells the surface had less than half of the mean regret of power laws through
    the best runs of cells.

    References
    ----------
    .. [1] Li, Zheng et al. "Predictable Scale: Part I, Step Law." arXiv:2503.04715 (2025), for optima
       that move with model size and data together.

    Examples
    --------
    >>> cells = [
    ...     ForecastCell(
    ...         label=f"{n:g}",
    ...         params=n,
    ...         horizon=100 * n,
    ...         lr=(1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    ...         batch=(64.0,) * 5,
    ...         loss=tuple(2 + n**-0.1 + 0.05 * (np.log(lr / 4e-3) + 0.3 * np.log(n / 4e6)) ** 2
    ...                    for lr in (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)),
    ...     )
    ...     for n in (1e6, 4e6, 1.6e7)
    ... ]
    >>> found = forecast(cells, params=6.4e7, horizon=6.4e9)
    >>> found.ok, round(found.fixed_batch), 1.4e-3 < found.lr.value < 2.2e-3
    (True, 64, True)
    """
    check_confidence(confidence)
    for name, value in (("params", params), ("horizon", horizon), ("batch", batch)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise LrscaleError(
                f"the target's {name} must be a positive number, not {value}", hint="give it in the units of the cells"
            )
    kept = [cell for cell in cells if cell.finite.sum() >= _LEAST_RUNS]
    empty = Forecast(status=FitStatus.TOO_FEW_POINTS, reason="", params=params, horizon=horizon, confidence=confidence)
    left = len(cells) - len(kept)
    if len(kept) < 2:
        return replace(
            empty,
            reason=f"{len(kept)} of {len(cells)} cells have {_LEAST_RUNS} runs with a loss; a forecast needs 2.",
            needs="Train more LRs in every cell, or add cells of another model size or horizon.",
        )
    table = tabulate(kept)
    confounded = _confounded(table)
    if confounded:
        return replace(
            empty,
            status=FitStatus.NOT_IDENTIFIABLE,
            reason=confounded,
            needs="Train two or more batch sizes in every cell, or the same one in all.",
        )
    level = tolerance_of(table, tolerance)
    if float(table.excess.max()) <= level:
        return replace(
            empty,
            status=FitStatus.NOT_IDENTIFIABLE,
            reason=(
                f"The losses of every cell differ by at most {float(table.excess.max()):.2g}, and {level:.2g} counts "
                "as equal: nothing says where the optimum lies."
            ),
            needs="Train LRs farther apart, or lower the tolerance where an offset of the loss makes it too coarse.",
        )
    place = Place(params=params, horizon=horizon)
    fits = _fit(table, tolerance, random_seed)
    end = batch_end(table) if batch is None else None
    at = None
    if end is not None:
        at = end.log_batch
    elif batch is not None and not table.one_batch:
        at = math.log(batch)
    answers = _answers(fits, place, confidence, at)
    misses = _misses(table, fits, tolerance, confidence, random_seed, at) if hold_out and table.n_cells > 2 else {}
    answers = [replace(one, miss=misses.get(one.family)) for one in answers]
    chosen = _choice(answers, fits.surface.noise)
    loss, loss_reason = loss_at(
        table,
        fits.surface.levels,
        place,
        noise=fits.surface.noise,
        confidence=confidence,
        random_seed=random_seed,
    )
    found = replace(
        empty,
        status=FitStatus.OK,
        reason=_reason(table, chosen),
        family=chosen.family,
        lr=chosen.lr,
        batch=chosen.batch,
        loss=loss,
        loss_reason=loss_reason,
        fixed_batch=float(np.exp(table.log_batch[0])) if table.one_batch else None if at is None else math.exp(at),
        families=tuple(answers),
        cells=_optima(fits, confidence, at),
        exponents=_exponents(fits.surface, confidence, at),
        notes=(*_notes(table, place, left), *([] if end is None else [end.sentence])),
    )
    if chosen.lr is None or chosen.lr.ratio > MOST_RATIO:
        width = "" if chosen.lr is None else f"{chosen.lr.text()}, a factor of {chosen.lr.ratio:.3g}"
        return replace(
            found,
            status=FitStatus.NOT_IDENTIFIABLE,
            reason=f"The best LR at the target would be {width}: too wide to name one.",
            needs=cells_needed(fits.surface, place),
        )
    return found


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Fits:
    surface: JointFit
    constant: JointFit
    free: JointFit


def _fit(table: CellTable, tolerance: float, random_seed: int) -> _Fits:
    return _Fits(
        surface=fit_jointly(table, tolerance=tolerance, random_seed=random_seed),
        constant=fit_jointly(table, moves=False, tolerance=tolerance, random_seed=random_seed),
        free=fit_jointly(table, scatters=_FREE, tolerance=tolerance, random_seed=random_seed),
    )


def _answers(fits: _Fits, place: Place, confidence: float, at: float | None) -> list[FamilyAnswer]:
    surface = surface_answer("surface", fits.surface, place, confidence, at)
    return [
        surface,
        widened(surface_answer("constant", fits.constant, place, confidence, at), surface),
        power_answer(fits.free, place, confidence, at),
        nearest_answer(fits.free, place, confidence, at),
    ]


def _misses(
    table: CellTable, fits: _Fits, tolerance: float, confidence: float, random_seed: int, at: float | None
) -> dict[str, Miss]:
    """Return what each family says of the cell of the largest params x horizon, fitted without it."""
    i = int(np.argmax(table.size + table.length))
    cell = table.cells[i]
    place = Place(params=cell.params, horizon=cell.horizon)
    lr = float(np.median(fits.free.lr_draws(at)[:, i]))
    batch = float(np.median(fits.free.optimum_draws()[1][:, i])) if at is None else at
    rest = _fit(table.without(i), tolerance, random_seed)
    misses = {}
    for one in _answers(rest, place, confidence, at):
        if one.lr is None:
            continue
        named = math.log(one.lr.value), batch if one.batch is None else math.log(one.batch.value)
        misses[one.family] = Miss(
            cell=cell.label,
            lr_factor=math.exp(named[0] - lr),
            batch_factor=None if one.batch is None else math.exp(named[1] - batch),
            regret=fits.free.regret(i, *named) - (0.0 if at is None else fits.free.regret(i, lr, at)),
            inside=one.lr.lo <= math.exp(lr) <= one.lr.hi,
        )
    return misses


def _choice(answers: Sequence[FamilyAnswer], noise: float) -> FamilyAnswer:
    """Return the family with the smallest miss; those within the noise of a run are as good, in the order of trust.

    Optima that stay are a special case of those that move: they are preferred only where their AICc is lower too.
    """
    by_name = {one.family: one for one in answers if one.lr is not None}
    missed = {name: one.miss.regret for name, one in by_name.items() if one.miss is not None}
    if "constant" in missed and "surface" in missed:
        stays, moves = by_name["constant"].aicc, by_name["surface"].aicc
        if stays is None or moves is None or stays >= moves:
            del missed["constant"]
    least = min(missed.values(), default=0.0)
    able = [name for name in _TRUST if name in by_name and (not missed or missed.get(name, math.inf) <= least + noise)]
    first = by_name[able[0]]
    if first.lr is not None and first.lr.ratio <= MOST_RATIO:
        return first
    # It says nothing; the next best that does is taken, provided that its interval held the cell left out.
    for name in sorted(missed, key=lambda own: missed[own]):
        one = by_name[name]
        if one.lr is not None and one.lr.ratio <= MOST_RATIO and one.miss is not None and one.miss.inside:
            return one
    return first


def _confounded(table: CellTable) -> str:
    if table.one_batch:
        return ""
    several = [table.several_batches(i) for i in range(table.n_cells)]
    if sum(several) * 2 >= table.n_cells and sum(several) >= 2:
        return ""
    return (
        f"The batch size differs between the cells and was varied in {sum(several)} of {table.n_cells} of them: "
        "the best LR against model size and horizon cannot be told from that against the batch."
    )


def _optima(fits: _Fits, confidence: float, at: float | None) -> tuple[CellOptimum, ...]:
    table = fits.free.table
    lr, batch = fits.free.lr_draws(at), fits.free.optimum_draws()[1]
    return tuple(
        CellOptimum(
            label=cell.label,
            params=cell.params,
            horizon=cell.horizon,
            lr=span(float(np.median(lr[:, i])), lr[:, i], confidence),
            batch=None
            if table.one_batch or at is not None
            else span(float(np.median(batch[:, i])), batch[:, i], confidence),
            loss=float(fits.free.levels[i]),
            n_runs=len(cell.lr),
        )
        for i, cell in enumerate(table.cells)
    )


def _exponents(fit: JointFit, confidence: float, at: float | None) -> dict[str, Span]:
    """Return exponents of the best LR, at the best batch or at a given one, and of the best batch."""
    both = np.vstack([fit.theta, fit.draws])
    columns = {"lr_params": both[:, 1], "lr_horizon": both[:, 2]}
    if at is not None:
        # At a fixed batch the best batch moves away from it, and the best LR with that.
        slope = slope_at(both[:, :SHARED].T, at - both[:, 3])
        columns = {"lr_params": both[:, 1] - slope * both[:, 4], "lr_horizon": both[:, 2] - slope * both[:, 5]}
    elif not fit.table.one_batch:
        columns |= {"batch_params": both[:, 4], "batch_horizon": both[:, 5]}
    tail = 50 * (1 - confidence)
    found = {}
    for name, values in columns.items():
        lo, hi = np.percentile(values[1:], [tail, 100 - tail])
        found[name] = Span(value=float(values[0]), lo=float(lo), hi=float(hi))
    return found


def _reason(table: CellTable, chosen: FamilyAnswer) -> str:
    miss = chosen.miss
    text = f"{table.loss.size} runs in {table.n_cells} cells; {MEANINGS[chosen.family]}"
    if miss is None:
        return f"{text}. No cell could be held out."
    return (
        f"{text}. With {miss.cell} held out its LR was forecast at {miss.lr_factor:.2f} x, "
        f"which costs {miss.regret:.2g} in loss there."
    )


def _notes(table: CellTable, place: Place, left: int) -> tuple[str, ...]:
    notes = list(edge_notes(table))
    if left:
        notes.append(f"{left} cells have fewer than {_LEAST_RUNS} runs with a loss and are left out.")
    size, length = place.offsets(table)
    unseen = place.unseen(table)
    for name, value, seen in (("params", size, table.size), ("horizon", length, table.length)):
        if name in unseen:
            notes.append(
                f"Every cell has the same {name}, and the target another: the exponent of {name} is that of the prior, "
                "within -1 and 1."
            )
        beyond = math.exp(max(value - float(seen.max()), float(seen.min()) - value, 0.0))
        if beyond > 1.01:
            notes.append(f"The target's {name} lies a factor of {beyond:.3g} outside of the cells.")
    if table.one_batch:
        notes.append(
            f"Every run has batch size {np.exp(table.log_batch[0]):.6g}: the LR holds at it, and the best batch is not "
            "known."
        )
    return tuple(notes)
