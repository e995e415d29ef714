"""Coverage of every 95 % interval of the laws on simulated studies with known truth: one table.

Run ``python benchmarks/coverage.py`` or ``nox -s bench -- coverage``. ``--studies N`` sets the studies behind each row
(default 1000, a tenth of it for loss curves), ``--quick`` runs 100, ``--markdown FILE`` also writes the table as
Markdown. Two processes share the work.

A row counts every study that got an interval, one-sided ones included. The basins of the simulated slices are mostly
not the model's own: a parabola, parabolas with cubic skew, a wall before divergence, and a side that saturates at the
initial loss. The kink stands apart: its curvature jumps at the minimum, which no smooth basin can know.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrscale.laws import LRSliceFit, fit_lr_slice, fit_optimal_lr
from lrscale.laws.lr_slice.basin import basin
from lrscale.laws.surface.surface import fit_lr_surface

FloatArray = NDArray[np.float64]
Row = tuple[str, int, int, float]
"""(name, covered studies, studies with an interval, median width)"""

SIBLINGS = {
    "coverage_steps": ("critical batch, ", 1.0),
    "coverage_scale": ("", 1.0),
    "coverage_noise_scale": ("noise scale, ", 1.0),
    "coverage_curves": ("final loss, ", 0.1),
}
"""Modules beside this one with a function ``rows(studies) -> list[Row]``, what they measure, and their share of the
studies: a study of loss curves fits whole trajectories several times, which takes seconds."""
NOMINAL = (0.93, 0.97)

# Each has value 0, its minimum at 0 and second derivative 2 there (from below for the kink).
TRUTHS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "p=.5,q=1": lambda u: 2 * basin(u, 0.5, 1.0),
    "p=q=1": lambda u: 2 * basin(u, 1.0, 1.0),
    "p=.25,q=2": lambda u: 2 * basin(u, 0.25, 2.0),
    "parabola": lambda u: u**2,
    "cubic +": lambda u: u**2 + 0.15 * u**3,
    "cubic -": lambda u: u**2 - 0.1 * u**3,
    "wall": lambda u: u**2 + 0.3 * np.expm1(np.maximum(4 * (u - 1.5), 0)),
    "saturating": lambda u: np.where(u < 0, 3 * (1 - np.exp(-(u**2) / 3)), u**2),
    "kink": lambda u: 2 * np.log(np.cosh(u)) + np.where(u > 0, 0.4 * u**2, 0),
}
UNKNOWABLE = ("kink",)
REALISTIC = tuple(name for name in TRUTHS if name not in UNKNOWABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A sweep: LRs at ratio 2 around an optimum that is uniform over one grid step."""

    lrs: int
    seeds: int
    noise: float
    """Standard deviation of a run as a fraction of the loss."""
    curvature: float
    """Coefficient of ln(LR)^2, as a fraction of the loss; 0.0065 is the median of a public LLM study."""

    @property
    def name(self) -> str:
        """The design in words."""
        return f"{self.lrs} LRs, {self.seeds} seeds, noise {self.noise:.1%}, curvature {self.curvature:.2%}"


DESIGNS = (
    Design(lrs=5, seeds=1, noise=0.003, curvature=0.0167),
    Design(lrs=7, seeds=1, noise=0.003, curvature=0.0067),
    Design(lrs=8, seeds=1, noise=0.001, curvature=0.0067),
    Design(lrs=5, seeds=3, noise=0.003, curvature=0.01),
    Design(lrs=6, seeds=2, noise=0.01, curvature=0.0167),
    Design(lrs=7, seeds=3, noise=0.01, curvature=0.0167),
    Design(lrs=8, seeds=3, noise=0.001, curvature=0.0167),
)
LAW_DESIGNS = ((4, 1), (5, 2), (6, 3))
"""(batch sizes at ratio 4 from 16, seeds)"""
LAWS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "power 0.6": (lambda batch: 1e-3 * batch**0.6, lambda batch: 0.6),
    "saturating, knee 256": (lambda batch: 0.02 / (1 + 256 / batch), lambda batch: 256 / (256 + batch)),
}
"""Best LR and its local slope at a batch size."""
THIN = (16.0, 64.0, 256.0, 1024.0, 4096.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A share of the work: `studies` studies of one kind; `key` names the rows that they count in."""

    kind: str
    key: tuple[str, ...]
    cell: tuple[int, ...]
    studies: int


@dataclass(slots=True)
class Tally:
    """Counts of one row."""

    covered: int = 0
    studies: int = 0
    widths: list[float] | None = None

    def add(self, covered: bool, width: float) -> None:
        """Count one interval; `width` is that of ln(LR) or of a slope, infinite where it is open."""
        self.widths = [*(self.widths or ()), width]
        self.covered += covered
        self.studies += 1

    def row(self, name: str) -> Row:
        """Return the counts as a row."""
        return name, self.covered, self.studies, float(np.median(self.widths)) if self.widths else math.nan


def simulate(
    truth: Callable[[FloatArray], FloatArray], design: Design, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, NDArray[np.int_], float]:
    """Return LRs, losses, seeds and the true ln(best LR) of one study; block effects have twice the noise."""
    grid = (np.arange(design.lrs) - (design.lrs - 1) / 2) * math.log(2)
    best = float(rng.uniform(-0.5, 0.5)) * math.log(2)
    seeds = np.repeat(np.arange(design.seeds), design.lrs)
    x = np.tile(grid, design.seeds)
    sd = 3 * design.noise
    loss = 3 + 3 * design.curvature * truth(x - best) + rng.normal(0, 2 * sd, design.seeds)[seeds]
    return np.exp(x), loss + rng.normal(0, sd, x.size), seeds, best


def vertex_studies(task: Task) -> list[Tally]:
    """Fit simulated slices of one design and one truth."""
    design, name = DESIGNS[task.cell[0]], list(TRUTHS)[task.cell[1]]
    rng = np.random.default_rng([1, *task.cell])
    tally = Tally()
    for _ in range(task.studies):
        lr, loss, seeds, best = simulate(TRUTHS[name], design, rng)
        fit = fit_lr_slice(lr, loss, seed=seeds, resamples=100)
        if fit.interval is not None:
            lo, hi = fit.interval.lo, fit.interval.hi
            width = math.inf if lo is None or hi is None else math.log(hi / lo)
            tally.add(fit.interval.contains(math.exp(best)), width)
    return [tally]


def law_studies(task: Task) -> list[Tally]:
    """Fit a law to slices; count the LR predicted at four times the largest batch size, and the slope.

    The slope is the exponent of the power law for a power truth, and the local slope at the middle batch size for the
    others. All slices of a study have the same shape of basin, drawn anew for each study.
    """
    law, design, _ = task.cell
    count, seeds = LAW_DESIGNS[design]
    (best_at, slope_at), power = list(LAWS.values())[law], law == 0
    sizes = 16.0 * 4.0 ** np.arange(count)
    rng = np.random.default_rng([2, *task.cell])
    predicted, slopes = Tally(), Tally()
    for _ in range(task.studies):
        truth = TRUTHS[REALISTIC[rng.integers(len(REALISTIC))]]
        fit = fit_optimal_lr(sizes, [_slice(best_at(size), seeds, truth, rng) for size in sizes], resamples=1000)
        if not fit.ok:
            continue
        _, lo, hi = (float(part[0]) for part in fit.predict([4 * sizes[-1]]))
        predicted.add(lo <= best_at(4 * sizes[-1]) <= hi, math.log(hi / lo))
        if power:
            interval = fit.row("power").parameters[1][2]
            lo = -math.inf if interval.lo is None else interval.lo
            hi = math.inf if interval.hi is None else interval.hi
            slopes.add(lo <= slope_at(1.0) <= hi, hi - lo)
        else:
            middle = float(np.exp(np.log(sizes).mean()))
            _, lo, hi = (float(part[0]) for part in fit.local_slope([middle]))
            slopes.add(lo <= slope_at(middle) <= hi, hi - lo)
    return [predicted, slopes]


def _slice(best: float, seeds: int, truth: Callable[[FloatArray], FloatArray], rng: np.random.Generator) -> LRSliceFit:
    centre = math.log(best) + float(rng.uniform(-0.5, 0.5)) * math.log(2)
    x = np.tile(centre + (np.arange(7) - 3) * math.log(2), seeds)
    seed = np.repeat(np.arange(seeds), 7)
    loss = 3 + 0.05 * truth(x - math.log(best)) + rng.normal(0, 0.018, seeds)[seed] + rng.normal(0, 0.009, x.size)
    return fit_lr_slice(np.exp(x), loss, seed=seed, resamples=500)


def surface_studies(task: Task) -> list[Tally]:
    """Fit a surface to five batch sizes with three LRs each; count the best LR at one of them and the extrapolated."""
    law, seeds, _ = task.cell
    best_at = list(LAWS.values())[law][0]
    rng = np.random.default_rng([3, *task.cell])
    inside, beyond = Tally(), Tally()
    for _ in range(task.studies):
        truth = TRUTHS[REALISTIC[rng.integers(len(REALISTIC))]]
        columns: list[tuple[float, float, float, int]] = []
        for size in THIN:
            # A ratio of 4 between three LRs whose middle is within a factor of two of the best.
            centre = math.log(best_at(size)) + float(rng.uniform(-1, 1)) * math.log(2)
            for seed in range(seeds):
                level = 3 - 0.1 * math.log(size) + rng.normal(0, 0.018)
                for x in centre + math.log(4) * np.arange(-1, 2):
                    value = level + 0.05 * float(truth(np.array(x - math.log(best_at(size))))) + rng.normal(0, 0.009)
                    columns.append((math.exp(x), size, value, seed))
        lr, batch, loss, seed_of = zip(*columns, strict=True)
        fit = fit_lr_surface(lr, batch, loss, seed=seed_of, resamples=1000)
        if not fit.ok:
            continue
        for tally, size in ((inside, THIN[rng.integers(len(THIN))]), (beyond, 4 * THIN[-1])):
            _, lo, hi = (float(part[0]) for part in fit.predict([size]))
            tally.add(lo <= best_at(size) <= hi, math.log(hi / lo))
    return [inside, beyond]


def tasks(studies: int) -> list[Task]:
    """Return the shares of work, the longest first; each row gets at least `studies` studies."""
    shares = []
    chunks = max(studies // 50, 1)
    each = math.ceil(studies / chunks)
    for law, name in enumerate(LAWS):
        for seeds in (1, 2):
            keys = tuple(f"surface, 5 batches x 3 LRs x {seeds} seeds, {name}: {what}" for what in ("best LR", "at 4x"))
            shares += [Task(kind="surface", key=keys, cell=(law, seeds, i), studies=each) for i in range(chunks)]
        for design, (count, seeds) in enumerate(LAW_DESIGNS):
            slope = "exponent" if law == 0 else "local slope"
            keys = tuple(f"law, {count} batches x {seeds} seeds, {name}: {what}" for what in ("LR at 4x", slope))
            shares += [Task(kind="law", key=keys, cell=(law, design, i), studies=each) for i in range(chunks)]
    per_cell = math.ceil(studies / len(DESIGNS))
    for i, design in enumerate(DESIGNS):
        for j, name in enumerate(TRUTHS):
            # A design's row averages over the realistic shapes; a shape's row over the designs.
            design_key = f"vertex, {design.name}" if name in REALISTIC else ""
            shape_key = f"vertex, shape {name}{'' if name in REALISTIC else ' (no smooth basin; apart)'}"
            shares.append(Task(kind="vertex", key=(design_key, shape_key), cell=(i, j), studies=per_cell))
    return shares


KINDS: dict[str, Callable[[Task], list[Tally]]] = {
    "vertex": vertex_studies,
    "law": law_studies,
    "surface": surface_studies,
}


def work(task: Task) -> list[Tally]:
    """Run one share."""
    return KINDS[task.kind](task)


def sibling_rows(name: str, studies: int) -> list[Row] | str:
    """Return the rows of a module beside this one, or why there are none."""
    if not (Path(__file__).parent / f"{name}.py").is_file():
        return f"{name}.py is missing: its rows are left out"
    module = importlib.import_module(name)
    if not hasattr(module, "rows"):
        return f"{name}.py has no rows(studies): its rows are left out"
    what, share = SIBLINGS[name]
    return [(f"{what}{own}", *rest) for own, *rest in module.rows(round(share * studies))]


def measure(studies: int) -> tuple[list[Row], list[str]]:
    """Return all rows, and what could not be measured."""
    shares = tasks(studies)
    tallies: dict[str, Tally] = {}
    with ProcessPoolExecutor(max_workers=min(os.cpu_count() or 1, 2)) as pool:
        others = [pool.submit(sibling_rows, name, studies) for name in SIBLINGS]
        results = list(pool.map(work, shares))
        found = [other.result() for other in others]
    for share, parts in zip(shares, results, strict=True):
        # A share of vertices counts in two rows.
        counted = parts if len(parts) == len(share.key) else parts * len(share.key)
        for key, part in zip(share.key, counted, strict=True):
            total = tallies.setdefault(key, Tally(widths=[]))
            total.covered += part.covered
            total.studies += part.studies
            total.widths = [*(total.widths or ()), *(part.widths or ())]
    tallies.pop("", None)
    rows = [tally.row(key) for key, tally in sorted(tallies.items(), key=lambda pair: _order(pair[0]))]
    said = [part for part in found if isinstance(part, str)]
    return rows + [row for part in found if not isinstance(part, str) for row in part], said


def _order(key: str) -> tuple[int, int]:
    groups = ("vertex,", "law,", "surface,")
    return next((i for i, group in enumerate(groups) if key.startswith(group)), len(groups)), "shape" in key


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    name, covered, studies, width = row
    share = covered / studies if studies else math.nan
    verdict = "" if NOMINAL[0] <= share <= NOMINAL[1] else "above" if share > NOMINAL[1] else "BELOW"
    return name, f"{share:.1%}", f"{studies}", f"{width:.3g}", verdict


HEAD = ("interval (95 %)", "covers", "studies", "width", "")


def text_table(rows: Sequence[Row]) -> str:
    """Return the table for a terminal of 100 columns."""
    lines = [f"{HEAD[0]:<70} {HEAD[1]:>7} {HEAD[2]:>7} {HEAD[3]:>7} {HEAD[4]}"]
    for row in rows:
        name, share, studies, width, verdict = _cells(row)
        lines.append(f"{name[:70]:<70} {share:>7} {studies:>7} {width:>7} {verdict}".rstrip())
    return "\n".join(lines)


def markdown_table(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", "| --- | ---: | ---: | ---: | --- |"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="studies behind each row (default 1000)")
    parser.add_argument("--quick", action="store_true", help="100 studies for each row")
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    start = time.perf_counter()
    rows, said = measure(100 if options.quick else options.studies)
    print(text_table(rows))
    for line in said:
        print(f"note: {line}")
    print(
        f"{time.perf_counter() - start:.0f} s; width: of ln(LR) or of the slope; 95 % of 1,000 studies is 93.6-96.4 %"
    )
    if options.markdown is not None:
        options.markdown.write_text(markdown_table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
