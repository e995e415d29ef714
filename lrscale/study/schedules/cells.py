"""What is compared: every schedule with every optimizer, and where the search of each begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lrscale.recipe import Recipe, ScheduleChoice
from lrscale.recipe import ScheduleComparison as Settings
from lrscale.recipe.batch_schedules import ComparedSchedule
from lrscale.recipe.optimizers import TYPICAL_LR, OptimizerChoice
from lrscale.store import BatchScheduleSpec, Trial, TrialSpec
from lrscale.study.cells import Cell
from lrscale.study.experiments.base import Context
from lrscale.study.experiments.scaling import scaling_cells, start_lr
from lrscale.study.optimizer_rule import lr_power
from lrscale.study.range_test.ramps import middle, range_test_batch
from lrscale.study.specs import ANY_LR, WARMUP_FRACTION, mean_factor
from lrscale.units import Duration

DEFAULT_HORIZON = Duration(20_000, "examples")
DEFAULT_RATIO = 2.0
MOST_LEARNING_RATES = 8
MOST_OF_ANOTHER_OPTIMIZER = 12
"""Its best LR is known by order of magnitude alone, so that its search may have further to go."""
VALIDATIONS = 10
KINDS = {
    "SGD": "sgd",
    "Adam": "adam",
    "AdamW": "adamw",
    "Lion": "lion",
    "Muon": "muon",
    "SGDScheduleFree": "schedule_free_sgd",
    "AdamWScheduleFree": "schedule_free_adamw",
}
"""What the module's own optimizer is, by the name of its class."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A schedule with an optimizer, at one batch size and horizon."""

    label: str
    schedule: ScheduleChoice
    optimizer: OptimizerChoice
    cell: Cell

    def start(self, context: Context) -> float:
        """Return the LR in the middle of the first ones."""
        return _reference_lr(context) * _lr_ratio(context, self.optimizer) / (2 * self.mean_factor)

    def plan(self, context: Context) -> list[TrialSpec]:
        """Return every trial wanted so far."""
        return self.cell.plan(context, self.start(context))

    def trials(self, context: Context) -> list[Trial]:
        """Return the finished trials."""
        return self.cell.trials(context, self.start(context))

    @property
    def recommendable(self) -> bool:
        """Whether a recommendation can hold it: it is for the module as it is, at one batch size."""
        return self.optimizer.is_own and self.cell.batch_schedule is None

    @property
    def mean_factor(self) -> float:
        """Mean over the horizon of the schedule's factor."""
        return mean_factor(self.cell.schedule, self.cell.settings)

    def is_swept(self, context: Context) -> bool:
        """Whether the sweep trains the very same trials."""
        if context.recipe.experiments.scaling is None:
            return False
        swept = scaling_cells(context).get(self.cell.batch_size)
        return swept is not None and swept.spec(context, ANY_LR, 0) == self.cell.spec(context, ANY_LR, 0)


def settings_of(recipe: Recipe) -> Settings:
    """Return the settings of a recipe that asks for a comparison."""
    settings = recipe.experiments.schedules
    assert settings is not None
    return settings


def entrants(context: Context) -> dict[str, Entrant]:
    """Return what is compared, by label; an optimizer that needs no schedule enters once, at a constant LR."""
    settings = settings_of(context.recipe)
    several = len(settings.optimizers) > 1 or not settings.optimizers[0].is_own
    found = {}
    for optimizer in settings.optimizers:
        schedules = (ScheduleChoice(name="constant"),) if optimizer.is_schedule_free else settings.schedules
        for schedule in schedules:
            label = schedule.label
            if several:
                name = _own_name(context) if optimizer.is_own else optimizer.label
                label = name if optimizer.is_schedule_free else f"{name} + {label}"
            found[label] = Entrant(
                label=label,
                schedule=schedule,
                optimizer=optimizer,
                cell=_cell(context, schedule, optimizer),
            )
    return found


def comparison_batch(context: Context) -> int:
    """Return the global batch size of the comparison: its own, else the best of the sweep, else the middle one."""
    recipe = context.recipe
    settings = settings_of(recipe)
    if settings.batch_size is not None:
        return settings.batch_size
    scaling = context.findings.get("scaling")
    best = scaling.data.get("best_batch_size") if scaling is not None else None
    if best is not None:
        return int(best)
    if recipe.experiments.scaling is not None:
        return middle(recipe.experiments.scaling.batch_sizes)
    return range_test_batch(recipe)


def _cell(context: Context, schedule: ScheduleChoice, optimizer: OptimizerChoice) -> Cell:
    settings, scaling = settings_of(context.recipe), context.recipe.experiments.scaling
    return Cell(
        batch_size=comparison_batch(context),
        horizon=settings.horizon or (scaling.horizon if scaling is not None else DEFAULT_HORIZON),
        schedule=schedule.name,
        settings=schedule.settings,
        warmup_fraction=scaling.warmup_fraction if scaling is not None else WARMUP_FRACTION,
        warmup=schedule.warmup,
        warmup_shape=schedule.warmup_shape,
        other_optimizer=optimizer.to_spec(),
        batch_schedule=_batch_schedule(context, schedule, optimizer),
        seeds=settings.seeds,
        ratio=scaling.ratio if scaling is not None else DEFAULT_RATIO,
        most=MOST_LEARNING_RATES if optimizer.is_own else MOST_OF_ANOTHER_OPTIMIZER,
        validations=scaling.validations if scaling is not None else VALIDATIONS,
    )


def _batch_schedule(context: Context, schedule: ScheduleChoice, optimizer: OptimizerChoice) -> BatchScheduleSpec | None:
    """Return how the batch grows, with the power by which the optimizer's LR and batch go together."""
    choice = schedule.batch_schedule if isinstance(schedule, ComparedSchedule) else None
    if choice is None:
        return None
    settings, facts = dict(choice.settings), context.facts
    if not optimizer.is_own:
        facts = {"optimizers": ["SGD" if optimizer.name == "sgd" else optimizer.label]}
    if choice.follows_decay and "power" not in settings:
        settings["power"] = 1 / lr_power(choice.rule or "auto", facts)
    elif choice.rule is not None:
        settings["lr_power"] = lr_power(choice.rule, facts)
    return BatchScheduleSpec(name=choice.name, settings=settings)


def _reference_lr(context: Context) -> float:
    """Return the best peak LR of the sweep at the compared batch size, times two mean factors of its schedule.

    Peaks of schedules are near each other in peak x mean factor (convex theory: Schaipp et al. 2025,
    arXiv:2501.18965); this places the search, which then walks.
    """
    scaling = context.findings.get("scaling")
    batch = comparison_batch(context)
    if scaling is not None:
        for row in scaling.tables.get("slices", ()):
            if row["batch_size"] == batch and row["best_lr"]:
                settings = context.recipe.experiments.scaling
                assert settings is not None
                return float(row["best_lr"]) * 2 * mean_factor(settings.schedule.name, settings.schedule.settings)
    return start_lr(context, batch, 0.5)


def _own_name(context: Context) -> str:
    names = context.facts.get("optimizers") or ["module"]
    return " and ".join(dict.fromkeys(str(name) for name in names))


def _lr_ratio(context: Context, optimizer: OptimizerChoice) -> float:
    if optimizer.is_own:
        return 1.0
    own = KINDS.get(_own_name(context), "adamw")
    return TYPICAL_LR.get(optimizer.name, TYPICAL_LR[own]) / TYPICAL_LR[own]
