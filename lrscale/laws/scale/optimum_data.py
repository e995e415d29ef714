"""Optima over model sizes, horizons and batch sizes: checks, and which exponents the design can tell apart."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray
from lrscale.laws.scale.optimum_law import BATCH
from lrscale.laws.scale.tobit import Cells

# A variable that varies by less than this, in ln, at fixed values of the others has no exponent worth the name: a lack
# of fit of 10 % would move it by 1.
_SEPARATE = 0.1
_CONSTANT = 0.05


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OptimumData:
    """Checked optima."""

    names: tuple[str, ...]
    """Names of the variables."""
    values: FloatArray
    """Their values, shape (n, v)."""
    y: FloatArray
    """Log optimum, (n,)."""
    variance: FloatArray
    """(n,); zeros when it is not known."""
    side: FloatArray
    """0 observed, 1 above y, -1 below y, (n,)."""
    clusters: tuple[Hashable, ...]
    batch: FloatArray | None
    """Batch size behind each optimum, (n,)."""

    @property
    def centre(self) -> FloatArray:
        """Mean log of each variable, (v,)."""
        mean: FloatArray = np.log(self.values).mean(axis=0)
        return mean

    def cells(self, names: Sequence[str]) -> Cells:
        """Return the cells with some of the variables."""
        place = [self.names.index(name) for name in names]
        x = (np.log(self.values) - self.centre)[:, place]
        return Cells(x=x, y=self.y, variance=self.variance, side=self.side.astype(np.int_))


def read_optima(
    optimum: ArrayLike,
    variables: Mapping[str, ArrayLike],
    variance: ArrayLike | None,
    censored: ArrayLike | None,
    cluster: Sequence[Hashable] | ArrayLike | None,
    batch: ArrayLike | None,
) -> OptimumData:
    """Check the columns of `fit_optimum_scaling`; raise LrscaleError naming the row that is wrong."""
    y = _column("optimum", optimum, None)
    if not variables:
        raise LrscaleError("there are no variables", hint='give for example {"params": ..., "tokens": ...}')
    table = np.column_stack([_column(str(name), own, y.size) for name, own in variables.items()])
    within = np.zeros(y.size) if variance is None else _column("variance", variance, y.size, zero=True)
    side = np.zeros(y.size) if censored is None else np.atleast_1d(np.asarray(censored, dtype=np.float64))
    if side.shape != y.shape or not np.isin(side, (-1.0, 0.0, 1.0)).all():
        raise LrscaleError(
            f"censored is {side.tolist()[:5]}... for {y.size} cells",
            hint="give 0 for an observed optimum, 1 where it lies above the value, -1 below, for each cell",
        )
    if cluster is None:
        # Slices at several batch sizes of one model and horizon share what is particular to that cell.
        place = [i for i, name in enumerate(variables) if name != BATCH]
        labels: list[Hashable] = [tuple(row) for row in table[:, place].tolist()]
    else:
        labels = list(np.asarray(cluster, dtype=object).ravel())
        if len(labels) != y.size:
            raise LrscaleError(f"{len(labels)} clusters for {y.size} cells", hint="give one cluster for each cell")
    sizes = None
    if batch is not None:
        one = np.ndim(batch) == 0
        sizes = _column("batch", np.full(y.size, batch) if one else batch, y.size)
    if BATCH in variables:
        sizes = table[:, list(variables).index(BATCH)]
    return OptimumData(
        names=tuple(str(name) for name in variables),
        values=table,
        y=np.log(y),
        variance=within,
        side=side,
        clusters=tuple(labels),
        batch=sizes,
    )


def _column(name: str, values: ArrayLike, n: int | None, *, zero: bool = False) -> FloatArray:
    column = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if column.ndim != 1 or (n is not None and column.size != n):
        raise LrscaleError(f"{name} has shape {column.shape} for {n} cells", hint="give one value for each cell")
    wrong = ~np.isfinite(column) | ((column < 0) if zero else (column <= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        rule = "zero or above" if zero else "a positive number"
        raise LrscaleError(f"row {row}: {name} {column[row]} is not {rule}", hint="drop or mend the cell")
    return column


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Which variables a fit may use, and why the exponents of the others are refused."""

    used: tuple[str, ...]
    """Variables of the fit, in the order given."""
    refused: tuple[tuple[str, str], ...]
    """(variable, reason)"""
    lines: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    """(variable of the fit, ((variable that follows it, with this power), ...)): along such a line only."""

    @property
    def determined(self) -> tuple[str, ...]:
        """Variables of the fit that have an exponent of their own."""
        on_line = {name for name, _ in self.lines}
        return tuple(name for name in self.used if name not in on_line)


def separate(data: OptimumData) -> Design:
    """Return which exponents the observed cells can tell apart."""
    seen = data.side == 0
    # Without an observed cell there is nothing to tell apart; the count of cells says so later.
    log = np.log(data.values[seen if seen.any() else ~seen])
    refused: list[tuple[str, str]] = []
    used = []
    for i, name in enumerate(data.names):
        if np.std(log[:, i]) < _CONSTANT:
            refused.append((name, f"{name} has one value ({data.values[0, i]:.4g}) in all cells"))
        else:
            used.append(name)
    lines: list[tuple[str, tuple[tuple[str, float], ...]]] = []
    while len(used) > 1:
        table = np.column_stack([log[:, data.names.index(name)] for name in used])
        table = table - table.mean(axis=0)
        found = None
        for i, name in enumerate(used):
            rest = np.delete(table, i, axis=1)
            slope = np.linalg.lstsq(rest, table[:, i], rcond=None)[0]
            left = float(np.std(table[:, i] - rest @ slope))
            others = [other for other in used if other != name]
            pulls = np.abs(slope) * rest.std(axis=0)
            members = [other for other, pull in zip(others, pulls, strict=True) if pull > _SEPARATE]
            if left < _SEPARATE and members and (found is None or left < found[0]):
                found = (left, name, members)
        if found is None:
            break
        left, name, members = found
        group = [own for own in used if own == name or own in members]
        first = group[0]
        start = table[:, used.index(first)]
        powers = []
        for other in group[1:]:
            follows = table[:, used.index(other)]
            powers.append((other, float(start @ follows / (start @ start))))
        text = ", ".join(f"{other} follows {first}^{power:.2f}" for other, power in powers)
        for own in group:
            refused.append((own, f"{text} to within {100 * left:.1f} %, so that their exponents cannot be told apart"))
        lines.append((first, tuple(powers)))
        used = [own for own in used if own == first or own not in group]
    return Design(used=tuple(used), refused=tuple(refused), lines=tuple(lines))


def confounded(data: OptimumData, design: Design, horizon: str) -> str | None:
    """Return why an LR must not be fitted against the horizon with the batch left out, or None when it may."""
    if horizon not in design.used or BATCH in data.names:
        return None
    if data.batch is None:
        return (
            f"The batch size of each optimum is not given: the best LR depends on it, and an exponent of {horizon} has "
            f'no meaning without. Give batch= one number if it was the same for all cells, or add "{BATCH}" to the '
            "variables."
        )
    log = np.log(data.batch)
    if np.std(log) < _CONSTANT:
        return None
    other = np.log(data.values[:, data.names.index(horizon)])
    slope = float(np.polyfit(other, log, 1)[0])
    correlation = float(np.corrcoef(other, log)[0, 1])
    return (
        f"The batch size varies from {data.batch.min():.4g} to {data.batch.max():.4g} and follows "
        f"{horizon}^{slope:.2f} (correlation {correlation:.2f}): the exponent of {horizon} would mix both, and can "
        f'have the wrong sign. Add "{BATCH}" to the variables, or say along_best_batch=True to describe the path of '
        "the best batch sizes only."
    )


def size_of(data: OptimumData, used: Sequence[str]) -> tuple[FloatArray, str]:
    """Return by what cells count as large, and its name: the product of the variables other than the batch."""
    names = [name for name in used if name != BATCH] or list(used)
    size = np.exp(sum((np.log(data.values[:, data.names.index(name)]) for name in names), np.zeros(data.y.size)))
    return size, " x ".join(names)


def geometric_means(data: OptimumData) -> dict[str, float]:
    """Return the centre of each variable by name."""
    return {name: math.exp(value) for name, value in zip(data.names, data.centre, strict=True)}
