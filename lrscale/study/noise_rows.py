"""How much equal runs of a sweep differ, by batch size and LR, from the slices that its finding carries."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lrscale.laws import NoiseFloor, noise_floor
from lrscale.laws.replicates import chi_square_interval, sd_ratio_interval, seeds_to_halve, smallest_difference

BATCHES, RATES, GROWTH = "noise", "noise_by_lr", "noise_growth"
"""Where rows by batch size and by LR lie in the tables of the finding on scaling, and the growth in its data."""
NEAR = 4.0
"""LRs within this factor of the best one count as near it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SeedNoise:
    """What replicates say of the noise: a row for each batch size and one for each LR with two finished runs."""

    batches: tuple[dict[str, Any], ...]
    rates: tuple[dict[str, Any], ...]
    growth: tuple[float, float, float] | None
    """Standard deviation above the best LR over that up to it, near it, and its 95 % interval; None where one side has
    no replicates."""

    @property
    def tables(self) -> dict[str, tuple[dict[str, Any], ...]]:
        """The rows by the names that they have in a finding."""
        return {BATCHES: self.batches, RATES: self.rates}


def seed_noise(cells: Iterable[Mapping[str, Any]]) -> SeedNoise:
    """Return the noise of each batch size, of each of its LRs, and how it changes across the best LR.

    The shift that the runs of a seed share at all LRs is taken out, as comparisons are paired by seed. The standard
    deviation of a batch size is that of its fitted slice, near the lowest losses, where the fit has it from replicates.

    Parameters
    ----------
    cells : iterable of mapping
        ``batch_size`` and ``slice`` (of `LRSliceFit.to_dict`), as in the finding on scaling.

    Examples
    --------
    >>> runs = {"lr": [1, 1, 2, 2], "loss": [3.0, 3.2, 3.1, 3.4], "seeds": [0, 1, 0, 1]}
    >>> (row,) = seed_noise([{"batch_size": 64, "slice": runs}]).batches
    >>> round(row["sd"], 3), row["df"], row["seeds"]
    (0.05, 1.0, 2)
    """
    batches, rates = [], []
    for cell in cells:
        fit = cell.get("slice") or {}
        kept = [
            row
            for row in zip(
                fit.get("lr") or (), fit.get("loss") or (), fit.get("seeds") or itertools.repeat(None), strict=False
            )
            if row[1] is not None and math.isfinite(row[1])
        ]
        if not kept:
            continue
        floor = _floor(kept)
        batches.append(_batch_row(cell["batch_size"], fit, kept, floor))
        rates += _rate_rows(cell["batch_size"], fit, kept, floor)
    return SeedNoise(batches=tuple(batches), rates=tuple(rates), growth=_growth(batches, rates))


def _floor(kept: Sequence[tuple[float, float, Any]]) -> NoiseFloor:
    lr, loss, seeds = (list(column) for column in zip(*kept, strict=True))
    floor = noise_floor(lr, loss, seed=seeds)
    # Where seeds meet at one LR only, their shift is part of what is seen there.
    return floor if floor.df > 0 else noise_floor(lr, loss)


def _batch_row(
    size: int, fit: Mapping[str, Any], kept: Sequence[tuple[float, float, Any]], floor: NoiseFloor
) -> dict[str, Any]:
    runs = sorted(Counter(lr for lr, _, _ in kept).values())
    compared = runs[-2] if len(runs) > 1 else runs[-1]
    row: dict[str, Any] = {
        "batch_size": size,
        "seeds": compared,
        "runs": len(kept),
        "sd": floor.sd,
        "lo": None,
        "hi": None,
        "df": float(floor.df),
        "shift_sd": floor.block_sd,
        "smallest": None,
        "share": None,
        "halved_by": None,
    }
    if _of_replicates(fit):
        row["sd"], row["df"] = float(fit["noise_sd"]), float(fit["noise_df"])
        levels = [level for _, level in fit.get("seed_levels") or ()]
        row["shift_sd"] = float(np.std(levels, ddof=1)) if len(levels) > 1 else None
    if row["sd"] is None:
        return row
    row["lo"], row["hi"] = chi_square_interval(row["sd"], row["df"])
    row["smallest"] = smallest_difference(row["sd"], row["df"], compared)
    lowest = fit.get("min_loss")
    row["share"] = row["smallest"] / abs(lowest) if lowest else None
    row["halved_by"] = seeds_to_halve(row["sd"], row["df"], compared) if row["sd"] > 0 else None
    return row


def _of_replicates(fit: Mapping[str, Any]) -> bool:
    return fit.get("noise_source") == "replicates" and fit.get("noise_sd") is not None


def _about_levels(
    fit: Mapping[str, Any], kept: Sequence[tuple[float, float, Any]]
) -> list[tuple[float, float, int, float]]:
    """Return LR, standard deviation, runs and degrees of freedom, the levels of the seeds being those of the slice.

    Levels by all runs alike would bring the noise of LRs that hardly train into that of every other.
    """
    levels = dict(fit["seed_levels"])
    fitted = [lr for lr, residual in zip(fit["lr"], fit["residual"], strict=True) if residual is not None]
    at: dict[float, list[float]] = {}
    for lr, loss, seed in sorted(kept, key=lambda run: run[0]):
        level = levels.get(seed, levels.get(None))
        if level is not None:
            at.setdefault(lr, []).append(loss - level)
    rows = []
    for lr, values in at.items():
        # The levels were fitted to the runs of these LRs, and are known to the others.
        df = len(values) * fit["noise_df"] / len(fitted) if lr in fitted else len(values) - 1.0
        if len(values) > 1 and df > 0:
            square = float(np.sum(np.square(np.subtract(values, np.mean(values)))))
            rows.append((lr, math.sqrt(square / df), len(values), df))
    return rows


def _rate_rows(
    size: int, fit: Mapping[str, Any], kept: Sequence[tuple[float, float, Any]], floor: NoiseFloor
) -> list[dict[str, Any]]:
    best = fit.get("best_lr")
    rows = []
    # Of the degrees of freedom that the levels of the seeds leave, each LR has its share.
    spreads = [(lr, sd, runs, runs * floor.df / len(kept)) for lr, sd, runs in floor.sd_at]
    for lr, sd, runs, df in _about_levels(fit, kept) if _of_replicates(fit) else spreads:
        lo, hi = chi_square_interval(sd, df)
        loss = float(np.mean([loss for own, loss, _ in kept if own == lr]))
        relative = None if not best else lr / best
        rows.append(
            {
                "batch_size": size,
                "lr": lr,
                "relative_lr": relative,
                "seeds": runs,
                "loss": loss,
                "sd": sd,
                "lo": lo,
                "hi": hi,
                "df": df,
            }
        )
    return rows


def _growth(
    batches: Sequence[Mapping[str, Any]], rates: Sequence[Mapping[str, Any]]
) -> tuple[float, float, float] | None:
    """Return the ratio of standard deviations on the two sides of the best LR, in units of those of the batch sizes."""
    unit = {row["batch_size"]: row["sd"] for row in batches}
    squares, df = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    for row in rates:
        place, sd = row["relative_lr"], unit[row["batch_size"]]
        if place is None or not 1 / NEAR <= place <= NEAR or not sd:
            continue
        squares[place > 1] += row["df"] * (row["sd"] / sd) ** 2
        df[place > 1] += row["df"]
    if min(df.values()) < 1 or min(squares.values()) <= 0:
        return None
    ratio = math.sqrt((squares[True] / df[True]) / (squares[False] / df[False]))
    return ratio, *sd_ratio_interval(ratio, df[True], df[False])
