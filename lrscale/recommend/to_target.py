"""The best batch size to a target loss: the time of a step against the steps that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from lrscale.errors import LayoutError
from lrscale.laws.base import FitStatus
from lrscale.laws.steps import Pareto, ParetoPoint, StepsFit, pareto_front
from lrscale.recipe import Recipe
from lrscale.recipe.experiments import Target
from lrscale.recommend.batch import Choice, choose_batch
from lrscale.recommend.layout import layout_for
from lrscale.recommend.measured import Cell, Speeds
from lrscale.recommend.words import clock, count, rate
from lrscale.study.finding import Finding
from lrscale.study.target_loss import KEY

FloatArray = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WayToTarget:
    """What it takes to reach a loss at each batch size, and which one is best by an objective."""

    target: float
    """The loss."""
    objective: str
    """``time``, ``cost`` or ``time_price``."""
    pareto: Pareto
    batch_size: int
    """The best one."""
    share: float
    """Fraction of the draws of steps and step times in which it is the best one."""
    weighed: tuple[float, ...]
    """What the objective makes smallest, for each point of `pareto`: seconds, device-seconds or examples."""

    @property
    def point(self) -> ParetoPoint:
        """The best one's point."""
        return next(point for point in self.pareto.points if point.batch_size == self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "target": self.target,
            "objective": self.objective,
            "pareto": self.pareto.to_dict(),
            "batch_size": self.batch_size,
            "share": self.share,
            "weighed": list(self.weighed),
        }


def way_to_target(
    recipe: Recipe, data: Mapping[str, Any], batch_sizes: Sequence[int], speeds: Speeds
) -> WayToTarget | str:
    """Return what the way to the target loss takes at each batch size, or why that cannot be told.

    Steps follow the fitted law at the batch sizes given, each on the layout that it would be recommended with; batch
    sizes that the law was not fitted to are left out. The objective is the recipe's; ``loss`` counts as ``time``.

    Parameters
    ----------
    recipe : Recipe
    data : mapping
        Of the steps to a target loss, in the finding on scaling.
    batch_sizes : sequence of int
        Those that can be recommended.
    speeds : Speeds
    """
    if data.get("fit") is None:
        return str(data.get("reason"))
    fit, target = StepsFit.from_dict(data["fit"]), recipe.target or Target()
    if not fit.law.draws or fit.status is FitStatus.POOR_FIT:
        return str(data.get("reason"))
    known = set(fit.law.inputs["batch"])
    sizes, seconds, devices, errors = [], [], [], []
    for size in sorted(size for size in batch_sizes if float(size) in known):
        try:
            layout, _ = layout_for(recipe, size, speeds)
        except LayoutError:
            continue
        speed = speeds.examples_per_second(layout)
        if speed is None:
            return f"No speed was measured at batch {count(size)}, so that the time to a loss is not known."
        sizes.append(size)
        seconds.append(layout.global_batch_size / speed)
        devices.append(layout.world_size)
        errors.append(speeds.log_error(layout))
    if len(sizes) < 2:
        return f"Steps to a loss leave no choice: the best LR was located at {len(sizes)} of the batch sizes they know."
    pareto = pareto_front(fit, sizes, seconds, devices=devices)
    objective = "time" if target.objective == "loss" else target.objective
    batch, each, ranks = (np.array(values, dtype=np.float64) for values in (sizes, seconds, devices))

    def weigh(steps: FloatArray, step_seconds: FloatArray) -> FloatArray:
        if objective == "time_price":
            return np.asarray(steps * (batch + (target.time_price or 0.0) * step_seconds))
        return np.asarray(steps * step_seconds * (ranks if objective == "cost" else 1.0))

    weighed = weigh(fit.predict(batch)[0], each)
    best = int(np.argmin(weighed))
    draws = fit.draws(batch)
    # Near the best one batch sizes differ by less than a step is timed to, which the law's draws do not know.
    timed = each * np.exp(np.array(errors) * np.random.default_rng(0).standard_normal(draws.shape))
    return WayToTarget(
        target=float(data["target"]),
        objective=objective,
        pareto=pareto,
        batch_size=sizes[best],
        share=float(np.mean(np.argmin(weigh(draws, timed), axis=1) == best)),
        weighed=tuple(weighed.tolist()),
    )


def choose(recipe: Recipe, cells: Sequence[Cell], scaling: Finding, speeds: Speeds) -> tuple[Cell, tuple[str, ...]]:
    """Return the batch size that the objective asks for, and the reasons: at equal examples, and to a target loss.

    The two questions have answers of their own. The first decides for the objective ``loss``, and for ``time`` where
    the recipe states no loss; else the second does, where the trials answer it.

    Parameters
    ----------
    recipe : Recipe
    cells : sequence of Cell
        The batch sizes whose best LR was located, at least one.
    scaling : Finding
    speeds : Speeds
    """
    target = recipe.target or Target()
    horizon = scaling.data["horizon_examples"]

    def taken(cell: Cell) -> float | None:
        layout, _ = layout_for(recipe, cell.batch_size, speeds)
        speed = speeds.examples_per_second(layout)
        ranks = layout.world_size if target.objective == "cost" else 1
        return None if speed is None else ranks * horizon / speed

    # At equal examples what a price of time leaves to choose is time.
    at_equal = "time" if target.objective == "time_price" else target.objective
    equal: Choice = choose_batch(cells, at_equal, target.tolerance, taken)
    stated = target.loss is not None
    wants_target = target.objective in ("cost", "time_price") or (target.objective == "time" and stated)
    data = scaling.data.get(KEY)
    if data is None:
        if not wants_target:
            return equal.cell, (equal.reason,)
        return equal.cell, (f"Nothing measured the steps to a loss; by {at_equal} at equal examples: {equal.reason}",)
    way = way_to_target(recipe, data, [cell.batch_size for cell in cells], speeds)
    if isinstance(way, str):
        if not wants_target:
            return equal.cell, (equal.reason, way) if stated else (equal.reason,)
        needs = "" if data.get("needs") is None else f" To tell: {data['needs']}."
        return equal.cell, (f"{way}{needs} The choice is by {at_equal} at equal examples: {equal.reason}",)
    if not wants_target:
        return equal.cell, (equal.reason, to_target_sentence(way, target))
    lowest = choose_batch(cells, "loss", target.tolerance, taken)
    chosen = next(cell for cell in cells if cell.batch_size == way.batch_size)
    reasons = (lowest.reason, to_target_sentence(way, target), *_other_lr(chosen, data))
    return chosen, reasons


def to_target_sentence(way: WayToTarget, target: Target) -> str:
    """Return which batch size is best to reach the loss, and what it takes."""
    point = way.point
    best = {"time": "is the fastest", "cost": "costs least", "time_price": "is the best"}[way.objective]
    value = {one: float(getattr(point, one).value) for one in ("steps", "seconds", "examples")}
    ranks = round((point.cost.value or 0.0) / value["seconds"]) if value["seconds"] else 1
    on = f" on {count(ranks)} device{'' if ranks == 1 else 's'}" if way.objective == "cost" else ""
    price = f" at {target.time_price:g} examples for a second" if way.objective == "time_price" else ""
    ends = point.seconds.interval
    known = ""
    if ends is not None and ends.lo is not None and ends.hi is not None:
        known = f" ({100 * ends.confidence:g} % {clock(ends.lo)} to {clock(ends.hi)})"
    sizes = [one.batch_size for one in way.pareto.points]
    beyond = {sizes[0]: "smallest", sizes[-1]: "largest"}.get(point.batch_size) if len(sizes) > 1 else None
    edge = "" if beyond is None else f" It is the {beyond} one measured: one beyond it may be better."
    of = f" of {len(way.pareto.points)} batch sizes"
    return (
        f"To reach loss {way.target:.4g}, batch {count(way.batch_size)} {best}{of}{price}: {clock(value['seconds'])}"
        f"{known}{on} for {count(round(value['steps']))} steps and {count(round(value['examples']))} examples; "
        f"it is so in {100 * way.share:.0f} % of what the data allow.{edge}"
    )


def _other_lr(cell: Cell, data: Mapping[str, Any]) -> tuple[str, ...]:
    lrs = {row["lr"] for row in data["runs"] if row["batch_size"] == cell.batch_size}
    lo, hi = cell.equivalent_lr
    outside = [lr for lr in lrs if not lo <= lr <= hi]
    if not outside:
        return ()
    return (
        f"These steps are those of peak LR {rate(outside[0])}, which reached the loss soonest; the LR named is the "
        "best one at the end of the runs. Train at the former to stop at the loss.",
    )
