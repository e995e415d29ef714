"""What the planner spends until it names a good setting, on full grids that were really trained, beside Optuna.

    python benchmarks/replay.py [--tables FILE...] [--seeds 20] [--budget 30] [--crop] [--one-seed]

A table is a full grid of LR x batch size with as many examples for every run (``benchmarks/data/make_grid.py`` trained
those of `digits` and `byte-gpt` that lie beside it). The rules of a game:

- A player sees the axes of the grid and the losses that it asks for. What it asks for is moved to the nearest setting
  that it has not seen, both axes scaled to one in logarithms. A run that diverged is told as NaN.
- After every run it names a setting, which is moved to the nearest of all. Regret is the loss there minus the lowest
  of the grid. A name is good when its regret is at most 0.5 % of that lowest loss. Where the seeds of the grid do not
  tell settings apart so finely, a second score takes a name for good that is worse by at most a standard error of the
  difference between two settings: the first one then asks for whichever of several equal settings was luckier.
- It plays to the end of the budget. Its score is the number of runs from which on every name is good, and the budget
  where the last one is not.
- The loss of a setting is the mean of its seeds. With ``--one-seed`` a player is told those of one seed, and judged by
  the mean.
- With ``--crop`` each game has a random part of the grid, at least 60 % of either axis: the best setting is then as
  likely near an edge as in the middle, where several players begin.

Beside the planner play Optuna's TPE, GP and CMA-ES samplers and random settings, which name the best setting that they
have seen; Optuna needs the extra ``bench``. Intervals of means and ratios are those of a bootstrap over seeds. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
DATA = Path(__file__).parent / "data"
OWN = "lrscale"
SHARE = 0.005
"""Regret against the lowest loss that is good enough."""


@dataclass(frozen=True)
class Space:
    """What a planner sees of a grid."""

    points: FloatArray
    """LR and batch size of every setting, (n, 2)."""


@dataclass(frozen=True)
class Grid:
    """One table."""

    name: str
    points: FloatArray
    losses: FloatArray
    """Loss of every setting under every seed, NaN where it diverged, (n, seeds)."""
    examples: int
    """Of one run."""

    @classmethod
    def read(cls, path: Path) -> Grid:
        """Read a table that `data/make_grid.py` wrote."""
        wide = pd.read_csv(path).pivot_table(
            index=["batch", "lr"], columns="seed", values="loss", dropna=False, aggfunc="mean"
        )
        points = np.array([(lr, batch) for batch, lr in wide.index], dtype=float)
        return cls(path.stem, points, wide.to_numpy(dtype=float), int(pd.read_csv(path)["examples"].max()))

    @property
    def doubt(self) -> float:
        """Standard error of the difference between two settings, from the seeds of the quarter with the lowest loss."""
        mean, seeds = self.mean, self.losses.shape[1]
        if seeds == 1:
            return 0.0
        lowest = np.argsort(mean)[: max(2, int(np.isfinite(mean).sum()) // 4)]
        return math.sqrt(2 * float(self.losses[lowest].var(axis=1, ddof=1).mean()) / seeds)

    @property
    def mean(self) -> FloatArray:
        """Loss of every setting over its seeds; NaN where one diverged."""
        mean: FloatArray = self.losses.mean(axis=1)
        return mean

    def cropped(self, seed: int) -> Grid:
        """Return a random part of the grid, at least 60 % of either axis."""
        rng = np.random.default_rng([seed, 60])
        kept = np.ones(len(self.points), dtype=bool)
        for axis in (0, 1):
            values = np.unique(self.points[:, axis])
            width = rng.integers(math.ceil(0.6 * len(values)), len(values) + 1)
            first = rng.integers(0, len(values) - width + 1)
            kept &= np.isin(self.points[:, axis], values[first : first + width])
        return Grid(self.name, self.points[kept], self.losses[kept], self.examples)

    def unit(self, points: FloatArray) -> FloatArray:
        """Return settings with both axes scaled to one in logarithms."""
        log, own = np.log(points), np.log(self.points)
        lo, span = own.min(axis=0), np.ptp(own, axis=0)
        unit: FloatArray = (log - lo) / np.where(span > 0, span, 1.0)
        return unit

    def nearest(self, setting: tuple[float, float], banned: Sequence[int] = ()) -> int:
        """Return the row of the nearest setting."""
        away = ((self.unit(self.points) - self.unit(np.array([setting]))) ** 2).sum(axis=1)
        away[list(banned)] = np.inf
        return int(np.argmin(away))


class Peer:
    """A player that names the best setting that it has seen."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)
        self.told: list[tuple[float, tuple[float, float]]] = []

    def ask(self) -> tuple[float, float]:
        """Return a random setting."""
        lr, batch = self.space.points[self.rng.integers(len(self.space.points))]
        return float(lr), float(batch)

    def tell(self, lr: float, batch: float, loss: float) -> None:
        """Take a loss; a run that diverged counts as the worst one so far."""
        worst = max((one for one, _ in self.told), default=1e3)
        self.told.append((loss if math.isfinite(loss) else worst, (lr, batch)))

    def recommend(self) -> tuple[float, float]:
        """Return the best setting seen."""
        return min(self.told)[1]


class Optuna(Peer):
    """A sampler of Optuna over ln LR and ln batch; all but CMA-ES are told the setting that was really trained."""

    def __init__(self, space: Space, seed: int, sampler: str) -> None:
        super().__init__(space, seed)
        optuna = importlib.import_module("optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        made = {
            "TPE": lambda: optuna.samplers.TPESampler(seed=seed),
            "GP": lambda: optuna.samplers.GPSampler(seed=seed),
            "CMA-ES": lambda: optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=1),
        }[sampler]()
        self.optuna, self.sampler = optuna, sampler
        self.study = optuna.create_study(sampler=made)
        lo, hi = space.points.min(axis=0), space.points.max(axis=0)
        self.ranges = {
            name: optuna.distributions.FloatDistribution(float(lo[axis]), float(hi[axis]), log=True)
            for axis, name in enumerate(("lr", "batch"))
        }

    def ask(self) -> tuple[float, float]:
        """Return what the sampler asks for."""
        self.open = self.study.ask(self.ranges)
        return self.open.params["lr"], self.open.params["batch"]

    def tell(self, lr: float, batch: float, loss: float) -> None:
        """Take a loss at the setting that was trained."""
        super().tell(lr, batch, loss)
        value = self.told[-1][0]
        if self.sampler == "CMA-ES":
            self.study.tell(self.open, value)
            return
        self.study.tell(self.open, state=self.optuna.trial.TrialState.FAIL)
        here = {"lr": lr, "batch": batch}
        params = {name: float(np.clip(here[name], one.low, one.high)) for name, one in self.ranges.items()}
        self.study.add_trial(self.optuna.trial.create_trial(params=params, distributions=self.ranges, value=value))


@dataclass(frozen=True)
class Played:
    """One game."""

    runs: int
    """Runs from which on the named setting is good enough; the budget where it is not."""
    reached: bool
    runs_within_noise: int
    """The same for a regret that may also be as large as the noise of the grid."""
    step: float
    """Median seconds of an ask, a tell and a name."""
    covered: bool | None
    """Whether the interval of the LR holds that of the grid's best setting; None where the player gives none."""


def play(make: Callable[[Space, int, int], Any], grid: Grid, budget: int, seed: int, *, one_seed: bool) -> Played:
    """Play a game to the end of the budget."""
    player = make(Space(grid.points), budget, seed)
    told = grid.losses[:, seed % grid.losses.shape[1]] if one_seed else grid.mean
    best = float(np.nanmin(grid.mean))
    seen: list[int] = []
    regrets, seconds = [], []
    for _ in range(min(budget, len(grid.points))):
        begun = time.perf_counter()
        row = grid.nearest(player.ask(), seen)
        seen.append(row)
        lr, batch = map(float, grid.points[row])
        player.tell(lr, batch, float(told[row]))
        named = player.recommend()
        seconds.append(time.perf_counter() - begun)
        regrets.append(float(grid.mean[grid.nearest(named)] - best))
    fine = SHARE * abs(best)
    runs = _settled(regrets, fine)
    covered = None
    if hasattr(player, "choice"):
        choice, lr = player.choice(), float(grid.points[int(np.nanargmin(grid.mean)), 0])
        covered = choice is not None and choice.lr_lo <= lr <= choice.lr_hi
    return Played(
        min(runs, budget),
        runs <= len(regrets),
        min(_settled(regrets, max(fine, grid.doubt)), budget),
        float(np.median(seconds)),
        covered,
    )


def _settled(regrets: Sequence[float], most: float) -> int:
    """Return the run from which on no regret is above a bound, as NaN always is; one past the end where none is."""
    return 1 + max((place for place, regret in enumerate(regrets, 1) if not regret <= most), default=0)


def resampled(values: FloatArray, function: Callable[[FloatArray], Any]) -> tuple[float, float]:
    """Return the 95 % interval of a function of the games, resampled over seeds along the last axis."""
    rng = np.random.default_rng(0)
    count = values.shape[-1]
    drawn = [function(values[..., rng.integers(0, count, count)]) for _ in range(2000)]
    lo, hi = np.quantile(drawn, [0.025, 0.975])
    return float(lo), float(hi)


def players(own: str) -> dict[str, Callable[[Space, int, int], Any]]:
    """Return everybody who can play here."""
    module, _, name = own.partition(":")
    found: dict[str, Callable[[Space, int, int], Any]] = {OWN: getattr(importlib.import_module(module), name)}
    absent = [package for package in ("optuna", "cmaes") if importlib.util.find_spec(package) is None]
    if absent:
        print(f"not every peer plays, for want of {' and '.join(absent)}: pip install -c constraints.txt -e '.[bench]'")
    if "optuna" not in absent:
        for sampler in ("TPE", "GP", *(() if "cmaes" in absent else ("CMA-ES",))):
            found[f"Optuna {sampler}"] = lambda space, _, seed, sampler=sampler: Optuna(space, seed, sampler)
    found["random"] = lambda space, _, seed: Peer(space, seed)
    return found


def against_best_peer(runs: dict[str, FloatArray], words: str) -> dict[str, Any]:
    """Print and return how many runs the planner took for each of the best peer's."""
    peers = {name: own.mean() for name, own in runs.items() if name not in (OWN, "random")}
    if not peers:
        return {}
    best = min(peers, key=lambda name: peers[name])
    pair = np.array([runs[OWN], runs[best]])
    lo, hi = resampled(pair, lambda drawn: drawn[0].mean() / drawn[1].mean())
    ratio = runs[OWN].mean() / peers[best]
    print(
        f"  {OWN} against {best}: {runs[OWN].mean():.1f} and {peers[best]:.1f}, "
        f"{ratio:.2f} ({lo:.2f} to {hi:.2f}) {words}"
    )
    return {"best peer": best, "ratio": float(ratio), "lo": lo, "hi": hi}


def main() -> None:
    """Play every table and print runs, examples and the ratio to the best peer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--tables", nargs="*", type=Path, default=sorted(DATA.glob("*.csv")), help="default: benchmarks/data/*.csv"
    )
    parser.add_argument("--seeds", type=int, default=20, help="games on each table")
    parser.add_argument("--budget", type=int, default=30, help="runs of a game")
    parser.add_argument("--crop", action="store_true", help="play each game on a random part of the grid")
    parser.add_argument("--one-seed", action="store_true", help="tell the losses of one seed, not their mean")
    parser.add_argument("--planner", default="lrscale.study.planner:make", help="module:name of its maker")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    everybody = players(args.planner)
    answer: dict[str, Any] = {}
    for path in args.tables:
        grid = Grid.read(path)
        print(f"\n{grid.name}: {len(grid.points)} settings, {grid.examples:,} examples a run, {args.seeds} seeds")
        doubt = 100 * grid.doubt / abs(float(np.nanmin(grid.mean)))
        print(f"  a difference between two settings is known to {doubt:.2g} % of the lowest loss")
        runs: dict[str, FloatArray] = {}
        within: dict[str, FloatArray] = {}
        for name, make in everybody.items():
            games = [
                play(make, grid.cropped(seed) if args.crop else grid, args.budget, seed, one_seed=args.one_seed)
                for seed in range(args.seeds)
            ]
            runs[name] = np.array([float(game.runs) for game in games])
            within[name] = np.array([float(game.runs_within_noise) for game in games])
            mean, (lo, hi) = runs[name].mean(), resampled(runs[name], np.mean)
            reached = np.mean([game.reached for game in games])
            line = f"  {name:13s} {mean:5.1f} runs ({lo:.1f} to {hi:.1f}), {mean * grid.examples:9,.0f} examples, "
            line += f"{100 * reached:3.0f} % within {args.budget}; {1000 * np.median([g.step for g in games]):.0f} ms"
            covered = [game.covered for game in games if game.covered is not None]
            print(line + (f"; interval holds the best LR in {100 * np.mean(covered):.0f} %" if covered else ""))
        answer[grid.name] = {name: float(own.mean()) for name, own in runs.items()}
        print(f"  {'whole grid':13s} {len(grid.points):5.1f} runs")
        answer[grid.name] |= against_best_peer(runs, "of its runs")
        answer[grid.name]["within noise"] = against_best_peer(within, "of its runs to a name within the grid's noise")
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
