"""Coverage of the intervals of the laws against scale on simulated studies with known truth.

Run ``python benchmarks/coverage_scale.py --studies 1000``. The loss follows the published surface of Besiroglu et al.
(arXiv:2404.10102, 2024) with noise of 0.5 %. Best LRs follow a power law or one that saturates with the batch size;
each cell departs from it by 5 to 15 % and is measured with an error of 3 to 15 %, as in public sweeps, or departs by
40 %.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lrscale.laws.base import Interval
from lrscale.laws.scale import OptimumFit, fit_loss_scaling, fit_optimum_scaling
from lrscale.laws.scale.loss import CHINCHILLA

FloatArray = NDArray[np.float64]
Row = tuple[str, int, int, float]
"""(name, covered, studies, median width of the interval)"""

SURFACE = np.array([1.817, 482.0, 0.348, 2085.0, 0.366])
LR_EXPONENTS = (-0.7, 0.3)


class Tally:
    """Counts how often an interval held the truth."""

    def __init__(self) -> None:
        self._hits: dict[str, list[bool]] = {}
        self._widths: dict[str, list[float]] = {}

    def add(self, name: str, truth: float, lo: float | None, hi: float | None) -> None:
        """Count one interval; an open end is None."""
        own = Interval(lo, hi, 0.95)
        self._hits.setdefault(name, []).append(own.contains(truth))
        self._widths.setdefault(name, []).append(math.inf if lo is None or hi is None else hi - lo)

    def rows(self, prefix: str) -> list[Row]:
        """Return a row for each name."""
        return [
            (f"{prefix}: {name}", sum(hits), len(hits), float(np.median(self._widths[name])))
            for name, hits in self._hits.items()
        ]


def loss_rows(
    studies: int, cells: tuple[int, int], noise: float, random_seed: int, *, missing: int = 0, resamples: int = 1000
) -> list[Row]:
    """Exponents of the loss over a grid of model sizes and tokens, of which the largest cells may be missing."""
    rng = np.random.default_rng([random_seed, *cells])
    sizes, tokens = np.geomspace(5e7, 4e9, cells[0]), np.geomspace(1e9, 1.5e11, cells[1])
    n, d = (axis.ravel() for axis in np.meshgrid(sizes, tokens))
    kept = np.argsort(n * d, kind="stable")[: n.size - missing]
    n, d = n[kept], d[kept]
    surface = CHINCHILLA.predict(SURFACE, {"params": n, "tokens": d})
    ahead = float(CHINCHILLA.predict(SURFACE, {"params": [10 * n.max()], "tokens": [10 * d.max()]})[0])
    truth = {"alpha": 0.348, "beta": 0.366, "a": 0.366 / (0.348 + 0.366), "loss_10x": ahead}
    tally = Tally()
    for _ in range(studies):
        loss = surface * np.exp(noise * rng.standard_normal(n.size))
        fit = fit_loss_scaling(n, d, loss, resamples=resamples, holdout=False)
        for name, value in truth.items():
            interval = fit.estimate(name).interval if fit.draws else None
            tally.add(name, value, *((interval.lo, interval.hi) if interval else (None, None)))
    return tally.rows(f"loss, {cells[0]} x {cells[1]} cells{f' less {missing}' if missing else ''}")


def lr_rows(
    studies: int,
    cells: int,
    censored: int,
    random_seed: int,
    *,
    departure: tuple[float, float] = (0.05, 0.15),
    resamples: int = 1000,
) -> list[Row]:
    """Exponents of the best LR at a fixed batch size, and the optimum of a cell six times larger in both.

    Each study draws the standard deviation of its cells about the law between the two of `departure`.
    """
    rng = np.random.default_rng([random_seed, cells, censored])
    tally = Tally()
    for _ in range(studies):
        n = np.exp(rng.uniform(math.log(1e8), math.log(2e9), cells))
        d = n * np.exp(rng.uniform(math.log(8), math.log(300), cells))
        sd, scatter = rng.uniform(0.03, 0.15, cells), rng.uniform(*departure)

        def law(size: FloatArray, data: FloatArray) -> FloatArray:
            value: FloatArray = -6 + LR_EXPONENTS[0] * np.log(size / 4e8) + LR_EXPONENTS[1] * np.log(data / 2e10)
            return value

        y = law(n, d) + scatter * rng.standard_normal(cells) + sd * rng.standard_normal(cells)
        side = np.zeros(cells)
        if censored:
            edge = np.sort(y)[cells - censored]
            side[y >= edge] = 1
            y = np.minimum(y, edge)
        fit = fit_optimum_scaling(
            np.exp(y),
            {"params": n, "tokens": d},
            variance=sd**2,
            censored=side,
            batch=256,
            resamples=resamples,
            holdout=False,
        )
        far = {"params": np.array([6 * n.max()]), "tokens": np.array([6 * d.max()])}
        middle = float(law(far["params"], far["tokens"])[0])
        _add_optimum(tally, fit, far, middle, middle + scatter * rng.standard_normal())
    what = f", {censored} censored" if censored else ""
    what += f", scatter {departure[0]:.0%}" if departure[0] == departure[1] else ""
    return tally.rows(f"best LR, {cells} cells{what}")


def saturating_rows(studies: int, random_seed: int, *, resamples: int = 1000) -> list[Row]:
    """Exponents of a best LR that saturates with the batch size: 12 cells with a departure each, 6 batch sizes."""
    rng = np.random.default_rng([random_seed, 99])
    grid = list(itertools.product((1e8, 3e8, 1e9, 3e9), (1e10, 4e10, 1.6e11), 2.0 ** np.arange(5, 11)))
    n, d, b = np.array(grid).T
    cell = np.repeat(np.arange(12), 6)
    tally = Tally()
    for _ in range(studies):
        scatter, sd = rng.uniform(0.05, 0.12), rng.uniform(0.03, 0.12, n.size)

        def law(size: FloatArray, data: FloatArray, batch: FloatArray) -> FloatArray:
            knee = 150 * (data / 4e10) ** 0.6
            value: FloatArray = -6 - 0.7 * np.log(size / 5e8) + 0.25 * np.log(data / 4e10) - np.log1p(knee / batch)
            return value

        own = scatter * rng.standard_normal(12)[cell] + 0.05 * rng.standard_normal(n.size)
        y = law(n, d, b) + own + sd * rng.standard_normal(n.size)
        variables = {"params": n, "tokens": d, "batch": b}
        fit = fit_optimum_scaling(np.exp(y), variables, variance=sd**2, resamples=resamples, holdout=False)
        far = {"params": np.array([1.2e10]), "tokens": np.array([6.4e11]), "batch": np.array([1024.0])}
        middle = float(law(**{"size": far["params"], "data": far["tokens"], "batch": far["batch"]})[0])
        new = middle + math.hypot(scatter, 0.05) * rng.standard_normal()
        _add_optimum(tally, fit, far, middle, new, tokens=0.25)
    return tally.rows("best LR, saturating")


def _add_optimum(
    tally: Tally, fit: OptimumFit, far: dict[str, FloatArray], law: float, cell: float, tokens: float = LR_EXPONENTS[1]
) -> None:
    # A design that cannot tell the exponents apart is refused, and gives no interval to count.
    if not fit.draws or fit.refused:
        return
    for name, value in (("params", LR_EXPONENTS[0]), ("tokens", tokens)):
        interval = fit.estimate(f"e_{name}").interval
        assert interval is not None
        tally.add(f"exponent of {name}", value, interval.lo, interval.hi)
    for name, value, new in (("law 4-6 x ahead", law, False), ("optimum 4-6 x ahead", cell, True)):
        _, lo, hi = fit.predict(far, new_cell=new)
        tally.add(name, value, math.log(lo[0]), math.log(hi[0]))


def rows(studies: int) -> list[Row]:
    """Return (name, covered, studies, median width) for every interval; widths of optima are in ln."""
    parts: list[Callable[[], list[Row]]] = [
        lambda: loss_rows(studies, (3, 3), 0.005, 0, missing=1),
        lambda: loss_rows(studies, (3, 4), 0.005, 0),
        lambda: loss_rows(studies, (4, 5), 0.005, 0),
        lambda: loss_rows(studies, (6, 8), 0.005, 0),
        lambda: lr_rows(studies, 6, 0, 0),
        lambda: lr_rows(studies, 9, 0, 0),
        lambda: lr_rows(studies, 16, 0, 0),
        lambda: lr_rows(studies, 12, 3, 0),
        lambda: lr_rows(studies, 6, 0, 0, departure=(0.4, 0.4)),
        lambda: lr_rows(studies, 9, 0, 0, departure=(0.4, 0.4)),
        lambda: lr_rows(studies, 16, 0, 0, departure=(0.4, 0.4)),
        lambda: lr_rows(studies, 12, 3, 0, departure=(0.4, 0.4)),
        lambda: saturating_rows(studies, 0),
    ]
    return [row for part in parts for row in part()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100, help="simulated studies for each design (default 100)")
    options = parser.parse_args()
    start = time.perf_counter()
    print("coverage of 95 % intervals [median width]")
    for name, covered, studies, width in rows(options.studies):
        print(f"  {name:<46} {covered / studies:6.1%}  [{width:.3g}]", flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
