"""What a search holds fixed, and what it knows before its first trial."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from lrscale.recipe import Recipe
from lrscale.recipe.choices import ScheduleChoice
from lrscale.store import TrialSpec
from lrscale.study.experiments.base import Context
from lrscale.study.experiments.scaling import start_lr, tolerance
from lrscale.study.planner import Belief
from lrscale.study.range_test.ramps import middle
from lrscale.study.search.beliefs import Believed, believed
from lrscale.study.search.ladder import Ladder
from lrscale.study.specs import WARMUP_FRACTION, make_spec, mean_factor
from lrscale.units import Duration

HALF_BOX = 10.0
"""Factor from the guess to either end of the box, where no range test says better."""
FARTHEST, NEAREST = 10**1.5, 4.0
"""Factors from the guess within which the ends of the box lie that a range test's bracket gives. A bracket says where
the loss falls and where it breaks, over more decades than one has trials for."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A recipe's search with everything that it takes from elsewhere."""

    batch_sizes: tuple[int, ...]
    """Ascending."""
    learning_rates: tuple[float, float] | None
    horizon: Duration
    schedule: ScheduleChoice
    warmup_fraction: float
    validations: int
    trials: int
    tolerance: float
    fresh_seeds: int
    """Seeds of the confirmation; 0 without one."""
    at_once: int

    @classmethod
    def of(cls, recipe: Recipe) -> Setup:
        """Return the set-up of a recipe that asks for a search."""
        own, scaling = recipe.experiments.search, recipe.experiments.scaling
        assert own is not None
        sizes = own.batch_sizes or (scaling.batch_sizes if scaling is not None else ())
        horizon = own.horizon or (scaling.horizon if scaling is not None else None)
        assert horizon is not None
        warmup = own.warmup_fraction
        if warmup is None:
            warmup = WARMUP_FRACTION if scaling is None else scaling.warmup_fraction
        schedule = own.schedule or (ScheduleChoice(name="cosine") if scaling is None else scaling.schedule)
        return cls(
            batch_sizes=tuple(sorted(sizes)),
            learning_rates=own.learning_rates,
            horizon=horizon,
            schedule=schedule,
            warmup_fraction=warmup,
            validations=own.validations,
            trials=own.trials,
            tolerance=tolerance(recipe) if own.tolerance is None else own.tolerance,
            fresh_seeds=0 if own.confirm is None else own.confirm.seeds,
            at_once=own.at_once,
        )

    def spec(self, context: Context, lr: float, batch_size: int, seed: int) -> TrialSpec:
        """Return the spec of one trial."""
        return make_spec(
            context.recipe,
            peak_lr=lr,
            batch_size=batch_size,
            horizon=self.horizon,
            schedule=self.schedule.name,
            settings=self.schedule.settings,
            seed=seed,
            warmup_fraction=self.warmup_fraction,
            warmup=self.schedule.warmup,
            warmup_shape=self.schedule.warmup_shape,
            validations=self.validations,
            training_examples=context.training_examples,
        )

    def ladder(self, context: Context) -> Ladder:
        """Return the LRs to begin with: the recipe's, those of the range test's bracket, or some about the module's."""
        if self.learning_rates is not None:
            return Ladder.within(*self.learning_rates)
        start = start_lr(context, middle(self.batch_sizes), self._mean_factor)
        lo, hi = start / HALF_BOX, start * HALF_BOX
        bracket = _range_test(context).get("bracket")
        if bracket is not None:
            lo = min(max(bracket[0], start / FARTHEST), start / NEAREST)
            hi = max(min(bracket[1], start * FARTHEST), start * NEAREST)
        return Ladder.around(lo, hi)

    def believed(self, context: Context) -> Believed:
        """Return what is expected of the best setting before the first trial."""
        size = middle(self.batch_sizes)
        lr = math.sqrt(math.prod(self.ladder(context).box))
        examples = self.spec(context, lr, size, 0).examples
        return believed(context, middle=size, mean_factor=self._mean_factor, examples=examples)

    def belief(self, context: Context) -> Belief:
        """Return it as the planner takes it."""
        return self.believed(context).belief

    def sampled(self, context: Context, count: int) -> list[TrialSpec]:
        """Return so many specs of the search's sizes, for estimates of cost."""
        lr = math.sqrt(math.prod(self.ladder(context).box))
        sizes = self.batch_sizes
        return [self.spec(context, lr, sizes[place % len(sizes)], place // len(sizes)) for place in range(count)]

    @property
    def _mean_factor(self) -> float:
        return mean_factor(self.schedule.name, self.schedule.settings)


def _range_test(context: Context) -> dict[str, Any]:
    finding = context.findings.get("range_test")
    return {} if finding is None else dict(finding.data)
