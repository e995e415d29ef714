"""How well cells of smaller models forecast the best LR and batch of larger ones, on a table of a sweep.

Run as ``python benchmarks/forecast.py [--table FILE] [--runs 8] [--seeds 20] [--planner package.module:make]``. The
table has one row a run with the columns ``cell, N, D_tokens, lr, batch_tokens, loss``, a full grid in every cell;
without one, grids with a known optimum are simulated. In every cell of the two smallest models the planner asks for
``--runs`` points of the grid; it sees no other loss, and no published law. From these runs
`lrscale.laws.forecast.forecast` names LR and batch for every cell of the third model; the regret is the loss at the
nearest point of its grid, less the lowest of the grid. Beside it stand the other families, Step Law
(arXiv:2503.04715), and the share of intervals that hold the grid's best setting. The interval of a mean is that of a
bootstrap over target cells and seeds. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lrscale.laws.forecast import ForecastCell, forecast
from lrscale.laws.lr_slice.basin import basin
from lrscale.laws.published import PUBLISHED_LAWS, Scale

FloatArray = NDArray[np.float64]
FAMILIES = ("chosen", "surface", "constant", "power", "nearest", "step_law")


@dataclass(frozen=True)
class Space:
    """What a planner sees of a cell."""

    points: FloatArray
    """LR and batch of every point of its grid, (n, 2)."""


@dataclass(frozen=True)
class Grid:
    """One cell of the table."""

    label: str
    params: float
    tokens: float
    points: FloatArray
    loss: FloatArray

    def nearest(self, lr: float, batch: float, banned: tuple[int, ...] = ()) -> int:
        """Return the row of the point nearest in the logarithm, both axes scaled to one."""
        log = np.log(self.points)
        away = np.sum(((log - np.log([lr, batch])) / np.ptp(log, axis=0)) ** 2, axis=1)
        away[list(banned)] = np.inf
        return int(np.argmin(away))

    def regret(self, lr: float, batch: float) -> float:
        """Return the loss at the nearest point less the lowest."""
        return float(self.loss[self.nearest(lr, batch)] - self.loss.min())

    def played(self, make: Callable[..., Any], runs: int, seed: int) -> ForecastCell:
        """Return the runs that a planner asks for."""
        planner = make(Space(self.points), runs, seed)
        asked: list[int] = []
        for _ in range(runs):
            row = self.nearest(*planner.ask(), banned=tuple(asked))
            asked.append(row)
            planner.tell(*(float(own) for own in self.points[row]), float(self.loss[row]))
        return ForecastCell(
            label=self.label,
            params=self.params,
            horizon=self.tokens,
            lr=tuple(self.points[asked, 0].tolist()),
            batch=tuple(self.points[asked, 1].tolist()),
            loss=tuple(self.loss[asked].tolist()),
        )


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--planner", default="lrscale.study.planner:make", metavar="package.module:make")
    options = parser.parse_args()
    grids = simulated() if options.table is None else read(options.table)
    module, _, name = options.planner.partition(":")
    make: Callable[..., Any] = getattr(importlib.import_module(module), name)
    sizes = sorted({grid.params for grid in grids})
    small = [grid for grid in grids if grid.params in sizes[:2]]
    large = [grid for grid in grids if grid.params == sizes[2]]
    print(f"{len(small)} cells of {sizes[0]:.3g} and {sizes[1]:.3g} params to {len(large)} of {sizes[2]:.3g}")
    rows = []
    begin = time.perf_counter()
    for seed in range(options.seeds):
        cells = [grid.played(make, options.runs, seed) for grid in small]
        for target in large:
            rows.append(play(cells, target, seed))
    summary = report(pd.DataFrame(rows), options.seeds)
    summary["seconds_a_forecast"] = (time.perf_counter() - begin) / len(rows)
    print(json.dumps(summary))


def play(cells: list[ForecastCell], target: Grid, seed: int) -> dict[str, Any]:
    """Return the regret of every family at one target."""
    found = forecast(cells, params=target.params, horizon=target.tokens, random_seed=seed)
    row: dict[str, Any] = {"cell": target.label, "seed": seed, "family": found.family, "refused": not found.ok}
    law = PUBLISHED_LAWS["step_law"].answer(Scale(params=target.params, tokens=target.tokens))
    settings = {one.family: (one.lr, one.batch) for one in found.families}
    settings["chosen"] = (found.lr, found.batch)
    for name, (lr, batch) in settings.items():
        if lr is not None and batch is not None:
            row[name] = target.regret(lr.value, batch.value)
    assert law.lr is not None
    assert law.batch_tokens is not None
    row["step_law"] = target.regret(law.lr, law.batch_tokens)
    best = target.points[int(np.argmin(target.loss))]
    if found.lr is not None and found.batch is not None:
        row["lr_inside"] = found.lr.lo <= best[0] <= found.lr.hi
        row["batch_inside"] = found.batch.lo <= best[1] <= found.batch.hi
        row["lr_ratio"] = found.lr.ratio
    return row


def report(table: pd.DataFrame, seeds: int) -> dict[str, Any]:
    """Print the means with intervals, and return them."""
    rng = np.random.default_rng(0)
    cells = sorted(table["cell"].unique())
    summary: dict[str, Any] = {"refused": float(table["refused"].mean())}
    print(f"\nmean regret x 1e-4 over {len(cells)} cells and {seeds} seeds")
    for name in FAMILIES:
        if name not in table or table[name].isna().all():
            continue
        grid = table.pivot(index="cell", columns="seed", values=name)
        rows = rng.integers(0, len(grid), (2000, len(grid)))
        columns = rng.integers(0, grid.shape[1], (2000, grid.shape[1]))
        drawn = [np.nanmean(grid.to_numpy()[np.ix_(row, column)]) for row, column in zip(rows, columns, strict=True)]
        lo, hi = np.percentile(drawn, [2.5, 97.5])
        by_cell = "  ".join(f"{1e4 * value:6.1f}" for value in grid.mean(axis=1))
        print(f"  {name:<9} {1e4 * table[name].mean():6.1f}  95 % {1e4 * lo:.1f} to {1e4 * hi:.1f}   by cell {by_cell}")
        summary[name] = {"mean": float(table[name].mean()), "lo": float(lo), "hi": float(hi)}
    for name in ("lr_inside", "batch_inside"):
        summary[name] = float(table[name].astype(float).mean())
    summary["lr_ratio"] = float(table["lr_ratio"].median())
    print(
        f"best LR of the grid inside the interval {100 * summary['lr_inside']:.0f} %, best batch "
        f"{100 * summary['batch_inside']:.0f} %; the interval of the LR spans x {summary['lr_ratio']:.2g}; "
        f"families chosen {table['family'].value_counts().to_dict()}"
    )
    return summary


def read(path: Path) -> list[Grid]:
    """Return the cells of a table."""
    rows = pd.read_csv(path)
    return [
        Grid(
            label=str(label),
            params=float(own["N"].iloc[0]),
            tokens=float(own["D_tokens"].iloc[0]),
            points=own[["lr", "batch_tokens"]].to_numpy(dtype=np.float64),
            loss=own["loss"].to_numpy(dtype=np.float64),
        )
        for label, own in rows.groupby("cell")
    ]


def simulated() -> list[Grid]:
    """Return grids of twelve LRs by ten batches over three sizes and two horizons, with noise of 0.0025."""
    rng = np.random.default_rng(0)
    grids = []
    for params, tokens in itertools.product((1e8, 2e8, 4e8), (5e9, 2e10)):
        size, length = np.log(params / 1e8), np.log(tokens / 1e10)
        lr, batch = 2e-3 * np.exp(-0.6 * size + 0.25 * length), 2.5e5 * np.exp(0.1 * size + 0.5 * length)
        points = np.array(list(itertools.product(2e-4 * 2 ** (np.arange(12) / 2), 3.2e4 * 1.6 ** np.arange(10))))
        v = np.log(points[:, 1] / batch)
        u = np.log(points[:, 0] / lr) - 0.6 * np.minimum(v + 0.3, 0)
        valley = 0.051 * basin(u, 0.5, 1.2)
        loss = 1.8 + 480 / params**0.35 + 2080 / tokens**0.37 + valley + 0.01 * v**2
        loss = loss + 0.0025 * rng.standard_normal(loss.size)
        grids.append(Grid(label=f"{params:.2g}_{tokens:.2g}", params=params, tokens=tokens, points=points, loss=loss))
    return grids


if __name__ == "__main__":
    main()
