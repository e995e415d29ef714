"""The trunk, its branch points, and the branches at each multiple of its batch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

from lrscale.laws.critical_branch import BranchedBatch, judge_branches, order_sd
from lrscale.laws.lr_slice.lattice import lattice_index, lattice_lr
from lrscale.recipe import CriticalBatch
from lrscale.store import BatchScheduleSpec, BranchPoint, Trial, TrialSpec
from lrscale.study.branch_states import reaches
from lrscale.study.experiments.base import Context
from lrscale.study.experiments.scaling import start_lr
from lrscale.study.optimizer_rule import lr_power
from lrscale.study.range_test.ramps import range_test_batch
from lrscale.study.specs import make_spec, mean_factor
from lrscale.units import Duration

DEFAULT_HORIZON = Duration(400, "steps")
FEWEST_STEPS = 2
"""Steps of a branch at the largest batch, at least."""
LATTICE_RATIO = 2.0
"""The LR lies on the lattice of the sweep, so that a best LR that moves a little asks for no new trials."""
TWICE = 2.0
"""Standard deviations that two branches may differ by for the order of their examples alone."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """One trunk at a constant LR and what branches off from it."""

    context: Context
    settings: CriticalBatch
    batch_size: int
    horizon: int
    """Steps of the trunk's whole length, which shares are of."""
    lr: float
    power: float
    """By which the LR follows the batch."""

    @classmethod
    def of(cls, context: Context) -> Branches:
        """Return what the recipe asks for."""
        recipe, settings = context.recipe, context.recipe.experiments.critical_batch
        assert settings is not None
        scaling = recipe.experiments.scaling
        size = settings.batch_size
        if size is None:
            size = min(scaling.batch_sizes) if scaling is not None else range_test_batch(recipe)
        length = settings.horizon or (DEFAULT_HORIZON if scaling is None else scaling.horizon)
        return cls(
            context=context,
            settings=settings,
            batch_size=size,
            horizon=length.steps(size, dataset_size=context.training_examples),
            lr=settings.learning_rate or _lr(context, size),
            power=lr_power(settings.rule, context.facts),
        )

    @property
    def positions(self) -> tuple[int, ...]:
        """Steps of the trunk after which branches begin, rising."""
        return tuple(sorted({max(1, round(share * self.horizon)) for share in self.settings.at}))

    @property
    def window(self) -> int:
        """Length of a branch in base steps: a whole number of steps at every multiple that divides the largest."""
        largest = self.settings.multiples[-1]
        return largest * max(FEWEST_STEPS, math.ceil(self.settings.window * self.horizon / largest))

    @property
    def trunk(self) -> TrialSpec:
        """The spec of the trunk, which ends where the last branches begin."""
        spec = make_spec(
            self.context.recipe,
            peak_lr=self.lr,
            batch_size=self.batch_size,
            horizon=Duration(self.positions[-1], "steps"),
            schedule="constant",
            settings={},
            seed=0,
            validations=len(self.positions),
        )
        warmup = round(self.settings.warmup_fraction * self.horizon)
        return dataclasses.replace(spec, schedule=dataclasses.replace(spec.schedule, warmup_steps=warmup))

    def branch(self, position: int, multiple: int, order: int) -> TrialSpec:
        """Return the spec of a branch; order 0 is that of the trunk, and the others begin anew at the branch point."""
        trunk = self.trunk
        grown = BatchScheduleSpec(name="constant", settings={"times": multiple, "lr_power": self.power})
        return dataclasses.replace(
            trunk,
            horizon=position + self.window,
            seed=trunk.seed + order,
            validate_every=0,
            branch=BranchPoint(trial_id=trunk.trial_id, position=position),
            batch_schedule=None if multiple == 1 else grown,
        )

    def plan(self) -> list[TrialSpec]:
        """Return every trial wanted so far: multiples are added while the largest one ends within the tolerance."""
        wanted = [self.trunk]
        trunk = self.context.ended(self.trunk)
        there = [position for position in self.positions if trunk is None or reaches(trunk, position)]
        first = self.settings.multiples[0]
        for position in there:
            wanted += self._orders(position, 1) + self._orders(position, first)
        tolerance = self.tolerance()
        if tolerance is None:
            return wanted
        for position in there:
            for last, following in zip(self.settings.multiples, self.settings.multiples[1:], strict=False):
                found = self.judged(position, tolerance)
                if found is None or found.multiple is None or found.multiple < last:
                    break
                wanted += self._orders(position, following)
        return wanted

    def everything(self) -> list[TrialSpec]:
        """Return the trunk and all branches that could come to run."""
        branches = [
            spec
            for position in self.positions
            for multiple in (1, *self.settings.multiples)
            for spec in self._orders(position, multiple)
        ]
        return [self.trunk, *branches]

    def usual(self) -> list[TrialSpec]:
        """Return as many as usually come to run: up to the middle one of the multiples."""
        kept = (1, *self.settings.multiples[: len(self.settings.multiples) // 2 + 1])
        branches = [
            spec for position in self.positions for multiple in kept for spec in self._orders(position, multiple)
        ]
        return [self.trunk, *branches]

    def tolerance(self) -> float | None:
        """Return the loss by which a larger batch may end above; None until the trunk's own branches are there."""
        if self.settings.tolerance is not None:
            return self.settings.tolerance
        known = [{1: self._losses(position, 1)} for position in self.positions]
        trunk = self.context.ended(self.trunk)
        reached = [position for position in self.positions if reaches(trunk, position)]
        if any(self.context.ended(spec) is None for position in reached for spec in self._orders(position, 1)):
            return None
        found = order_sd(known)
        return None if found is None else TWICE * found

    def judged(self, position: int, tolerance: float) -> BranchedBatch | None:
        """Return what the branches from a place say; None while those at the trunk's own batch are not all there."""
        losses = {}
        for multiple in (1, *self.settings.multiples):
            if all(self.context.ended(spec) is not None for spec in self._orders(position, multiple)):
                losses[multiple] = self._losses(position, multiple)
            else:
                break
        return judge_branches(losses, tolerance) if 1 in losses else None

    def trials(self) -> list[Trial]:
        """Return the finished trunk and branches."""
        return self.context.finished(self.plan())

    def _orders(self, position: int, multiple: int) -> list[TrialSpec]:
        return [self.branch(position, multiple, order) for order in range(self.settings.orders)]

    def _losses(self, position: int, multiple: int) -> dict[Hashable, float | None]:
        found: dict[Hashable, float | None] = {}
        for order, spec in enumerate(self._orders(position, multiple)):
            trial = self.context.ended(spec)
            if trial is not None and trial.record.status in ("completed", "diverged"):
                found[order] = trial.record.final_loss
        return found


def _lr(context: Context, batch_size: int) -> float:
    """Return the LR of the trunk: the sweep's best one by its area, else where a search would begin."""
    scaling, found = context.recipe.experiments.scaling, context.findings.get("scaling")
    lr = None
    if scaling is not None and found is not None:
        known: Sequence[float] = [
            float(row["best_lr"])
            for row in found.tables.get("slices", ())
            if row["batch_size"] == batch_size and row["best_lr"]
        ]
        if known:
            lr = known[0] * mean_factor(scaling.schedule.name, scaling.schedule.settings)
    lr = start_lr(context, batch_size, 1.0) if lr is None else lr
    return lattice_lr(lattice_index(lr, LATTICE_RATIO), LATTICE_RATIO)
