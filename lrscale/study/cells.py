"""One batch size under one schedule: the trials of its LR slice, and the fit."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, final

from lrscale.laws import LRSliceFit, fit_lr_slice
from lrscale.laws.lr_slice.lattice import lattice_index, lattice_lr
from lrscale.laws.lr_slice.lr_search import LRSearch
from lrscale.recipe.engines import PrunerChoice
from lrscale.schedules.warmup import WarmupShape
from lrscale.store import BatchScheduleSpec, Trial, TrialSpec
from lrscale.study.experiments.base import Context
from lrscale.study.finding import Check
from lrscale.study.grid_stopping import grid_plan
from lrscale.study.outcomes import counts_as_diverged, usable
from lrscale.study.specs import make_spec
from lrscale.units import Duration

Name = TypeVar("Name", bound=Hashable)

TYPICAL_LRS = 6
TYPICAL_REPLICATES = 3.5
"""LRs of the first replicate and of each further one, read off 10 cells of `digits` alone (5 to 8, and 3 to 5). They
serve estimates of cost: how many a search runs, its losses decide."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What is held fixed while the LR varies."""

    batch_size: int
    horizon: Duration
    schedule: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    warmup_fraction: float
    seeds: int
    ratio: float
    most: int
    validations: int
    learning_rates: tuple[float, ...] | None = None
    """The user's own grid; None searches."""
    stopper: PrunerChoice | None = None
    """The rule by which replicates of that grid end early; None trains every trial to its horizon."""
    warmup: Duration | float | None = None
    """Length of the warm-up in place of `warmup_fraction`, in front of any schedule; None keeps that."""
    warmup_shape: WarmupShape = "linear"
    other_optimizer: Mapping[str, Any] = field(default_factory=dict)
    """What takes the place of the module's own optimizer; empty: nothing."""
    companions: str | None = None
    """Policy by which other settings move with the batch size; None is the recipe's first one."""
    batch_schedule: BatchScheduleSpec | None = None
    """How the batch grows; None: it does not."""

    def spec(self, context: Context, lr: float, seed: int) -> TrialSpec:
        """Return the spec of one trial of the cell."""
        spec = make_spec(
            context.recipe,
            peak_lr=lr,
            batch_size=self.batch_size,
            horizon=self.horizon,
            schedule=self.schedule,
            settings=self.settings,
            seed=seed,
            warmup_fraction=self.warmup_fraction,
            warmup=self.warmup,
            warmup_shape=self.warmup_shape,
            other_optimizer=self.other_optimizer,
            validations=self.validations,
            training_examples=context.training_examples,
            companions=self.companions,
        )
        return dataclasses.replace(spec, batch_schedule=self.batch_schedule)

    def plan(self, context: Context, start_lr: float) -> list[TrialSpec]:
        """Return every trial wanted so far, the search begun around `start_lr`."""
        if self.learning_rates is not None:
            if self.stopper is None:
                return self._grid(context, self.learning_rates)

            def spec_of(lr: float, seed: int) -> TrialSpec:
                return self.spec(context, lr, seed)

            return grid_plan(context, self.learning_rates, self.seeds, spec_of, self.stopper, self.validations)
        search = LRSearch.on_lattice(seeds=self.seeds, most=self.most, ratio=self.ratio)
        start = lattice_index(start_lr, self.ratio)
        wanted: dict[tuple[float, int], TrialSpec] = {}
        while True:
            known = self._losses(context, wanted)
            proposals = search.next(known, start)
            new = [key for key in proposals if key not in wanted]
            for index, seed in new:
                wanted[index, seed] = self.spec(context, lattice_lr(index, self.ratio), seed)
            if not new or any(context.ended(wanted[key]) is None for key in new):
                return list(wanted.values())

    def at_most(self, context: Context, lr: float) -> list[TrialSpec]:
        """Return as many specs as the search could come to: the full ladder once, the other replicates at three LRs."""
        return self._counted(context, lr, self.most + 3 * (self.seeds - 1))

    def typical(self, context: Context, lr: float) -> list[TrialSpec]:
        """Return as many specs as the search usually comes to."""
        count = min(TYPICAL_LRS, self.most) + math.ceil(TYPICAL_REPLICATES * (self.seeds - 1))
        return self._counted(context, lr, count)

    def _counted(self, context: Context, lr: float, count: int) -> list[TrialSpec]:
        if self.learning_rates is not None:
            return self._grid(context, self.learning_rates)
        return [self.spec(context, lr, seed) for seed in range(count)]

    def _grid(self, context: Context, learning_rates: tuple[float, ...]) -> list[TrialSpec]:
        return [self.spec(context, lr, seed) for seed in range(self.seeds) for lr in learning_rates]

    def is_placed(self, context: Context, start_lr: float) -> bool:
        """Whether the first replicate has found where the best LR is, so that other cells can start from it."""
        specs = self.plan(context, start_lr)
        # While a replicate that was lost is waited for, the first one may have further to go.
        waits = any(context.view.get(spec) is not None and context.ended(spec) is None for spec in specs)
        firsts = [spec for spec in specs if spec.seed == context.recipe.seed]
        return not waits and all(context.ended(spec) is not None for spec in firsts)

    def best_lr(self, context: Context, start_lr: float) -> float | None:
        """Return the LR with the lowest loss of the first replicate, or None while there is none."""
        finished = [
            trial
            for trial in context.finished(self.plan(context, start_lr))
            if trial.record.final_loss is not None and trial.spec.seed == context.recipe.seed
        ]
        if not finished:
            return None
        return min(finished, key=lambda trial: trial.record.final_loss or math.inf).spec.peak_lr

    def trials(self, context: Context, start_lr: float) -> list[Trial]:
        """Return the finished trials of the cell."""
        return context.finished(self.plan(context, start_lr))

    def _losses(
        self, context: Context, wanted: Mapping[tuple[float, int], TrialSpec]
    ) -> dict[tuple[float, int], float]:
        losses = {}
        for key, spec in wanted.items():
            trial = context.ended(spec)
            if trial is not None:
                loss = trial.record.final_loss
                losses[key] = math.inf if loss is None else loss
        return losses


def fit_cell(trials: list[Trial], *, tolerance: float) -> LRSliceFit:
    """Fit the LR slice of a cell; trials that crashed for a reason of their own are left out."""
    # In an order of its own: resampling follows the order of the rows, and an answer must not depend on who ran first.
    kept, diverged = usable(sorted(trials, key=lambda trial: (trial.spec.peak_lr, trial.spec.seed)))
    return fit_lr_slice(
        [trial.spec.peak_lr for trial in kept],
        [math.nan if trial.record.final_loss is None else trial.record.final_loss for trial in kept],
        diverged=diverged,
        seed=[trial.spec.seed for trial in kept],
        tolerance=tolerance,
    )


def at_best_lr(fit: LRSliceFit, trials: Iterable[Trial]) -> Mapping[int, Trial]:
    """Return the completed trials, by seed, of the LR nearest to the best one among those with the most seeds."""
    groups: dict[float, dict[int, Trial]] = defaultdict(dict)
    for trial in trials:
        if trial.record.status == "completed":
            groups[trial.spec.peak_lr][trial.spec.seed] = trial
    if fit.best_lr is None or not groups:
        return {}
    best = math.log(fit.best_lr)
    most = max(map(len, groups.values()))
    lr = min((lr for lr, runs in groups.items() if len(runs) == most), key=lambda one: abs(math.log(one) - best))
    return groups[lr]


def with_trials(by_cell: Mapping[Name, list[Trial]]) -> dict[Name, list[Trial]]:
    """Return the cells that have a trial to be fitted: a study that was stopped, or kept short, has others besides."""
    return {name: trials for name, trials in by_cell.items() if usable(trials)[0]}


def failure_checks(name: str, failed: Sequence[Trial], trials: int) -> list[Check]:
    """Return a check that tells how many of some trials failed, and the reason of the first; none where none did."""
    if not failed:
        return []
    record = failed[0].record
    return [
        Check(
            name=name,
            status="WARNING",
            sentence=f"{len(failed)} of {trials} trials ended as {record.status}: {record.reason}.",
            remedy=f"see the log in trials/{record.trial_id}",
        )
    ]


def failed_for_their_own_reason(trials: list[Trial]) -> list[Trial]:
    """Return the trials that neither completed nor say anything about their LR, and were not meant to end early."""
    return [
        trial
        for trial in trials
        if trial.record.status != "completed"
        and trial.record.ended_by_stopper is None
        and not counts_as_diverged(trial, trials)
    ]
