"""What a study knows about the setting of a launch config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.companions import GroupSettings
from lrscale.laws import LRSliceFit
from lrscale.recipe import Recipe
from lrscale.recommend.config_check.config import LaunchConfig
from lrscale.recommend.config_check.formed import Formed, form
from lrscale.recommend.measured import Cell, find, scaling_cells, schedule_results
from lrscale.recommend.recommendation import Recommendation, Refusal
from lrscale.recommend.recommender import recommend
from lrscale.store import StudyView, Trial
from lrscale.study.finding import Finding
from lrscale.units import Duration

Facts = Mapping[str, Any]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A study, asked about one launch config."""

    recipe: Recipe
    view: StudyView
    findings: tuple[Finding, ...]
    config: LaunchConfig
    formed: Formed
    """The global batch of the config and its split."""
    horizon_examples: int | None
    """Length of the job; None where the config does not say."""
    usual: Recommendation | Refusal
    """For the recipe's own target."""
    here: Recommendation | Refusal | None
    """For the batch of the config, at the length of the trials; None where its batch is unknown."""
    cells: tuple[Cell, ...]
    """Measured batch sizes, the smallest first."""
    facts: Facts
    """What a trial of the task found out about the module and its data."""

    @classmethod
    def of(cls, recipe: Recipe, view: StudyView, findings: Sequence[Finding], config: LaunchConfig) -> Calibration:
        """Ask a study about a config."""
        own = _task_trials(view)
        facts: Facts = own[-1].record.facts if own else {}
        usual = recommend(recipe, view, findings)
        formed = form(config, recipe, facts)
        size = formed.global_batch_size
        return cls(
            recipe=recipe,
            view=view,
            findings=tuple(findings),
            config=config,
            formed=formed,
            horizon_examples=_horizon_examples(config, size, facts),
            usual=usual,
            here=None if size is None else _recommend_at(recipe, view, findings, size),
            cells=_cells(findings),
            facts=facts,
        )

    @property
    def setting(self) -> Recommendation | None:
        """What is recommended at the batch of the config, or else for the recipe's target."""
        for answer in (self.here, self.usual):
            if isinstance(answer, Recommendation):
                return answer
        return None

    @property
    def cell(self) -> Cell | None:
        """The measured cell at the batch of the config; None where that batch was not measured."""
        return next((cell for cell in self.cells if cell.batch_size == self.formed.global_batch_size), None)

    @property
    def lr(self) -> tuple[float, str] | None:
        """Peak LR of the job and where it was found; None where neither the config nor the trials say."""
        if self.config.applied is not None:
            return self.config.applied.peak_lr, "ApplyRecommendation"
        if self.config.lr is not None:
            return self.config.lr.value, self.config.lr.key
        own = self.facts.get("reference_lr")
        # A recipe that says nothing about the LR has trained the class with its default, which the config leaves too.
        if own and not self.facts.get("lr_home") and self.same_class("model") and not self._is_stated("lr"):
            return float(own), "the default of the module"
        return None

    @property
    def steps(self) -> int | None:
        """Optimizer steps of the job."""
        if self.horizon_examples is None or self.formed.global_batch_size is None:
            return None
        return max(1, self.horizon_examples // self.formed.global_batch_size)

    @property
    def group(self) -> GroupSettings | None:
        """Settings of the first parameter group, as the module makes it by the recipe."""
        groups = self.facts.get("group_settings") or ()
        return GroupSettings(**groups[0]) if groups else None

    def trials_here(self) -> list[Trial]:
        """Return the trials at the batch of the config that had a schedule, not a ramp, and no layout of their own."""
        size = self.formed.global_batch_size
        return [trial for trial in _task_trials(self.view) if trial.spec.global_batch_size == size]

    def slice_here(self) -> LRSliceFit | None:
        """Return the fitted slice at the batch of the config, where there is one with a curve."""
        scaling = find(self.findings, "scaling")
        for row in () if scaling is None else scaling.data.get("cells", ()):
            if row["batch_size"] == self.formed.global_batch_size and row.get("slice"):
                fit = LRSliceFit.from_dict(row["slice"])
                return fit if fit.ok and fit.curve_draws else None
        return None

    def same_class(self, part: str) -> bool:
        """Whether the config names the class of ``model`` or ``data`` that the trials trained."""
        named = self.config.classes.get(part)
        own = getattr(self.recipe.task, part)
        return named is not None and own is not None and named == own.class_path

    def _is_stated(self, word: str) -> bool:
        model = self.recipe.task.model
        return model is not None and any(
            word in str(name).lower() or "learning" in str(name) for name in model.init_args
        )


def _task_trials(view: StudyView) -> list[Trial]:
    """Return completed trials of the task as it stands, under a schedule."""
    return [
        trial
        for trial in view
        if trial.record.status == "completed"
        and trial.spec.schedule.name != "ramp"
        and trial.spec.layout is None
        and not trial.spec.overrides
    ]


def _cells(findings: Sequence[Finding]) -> tuple[Cell, ...]:
    for key in ("scaling", "search"):
        found = find(findings, key)
        cells = () if found is None else scaling_cells(found)
        if cells:
            return cells
    comparison = find(findings, "schedules")
    compared = () if comparison is None else schedule_results(comparison)
    return tuple(result.cell for result in compared if result.cell is not None and result.verdict == "best")


def _recommend_at(recipe: Recipe, view: StudyView, findings: Sequence[Finding], size: int) -> Recommendation | Refusal:
    # On one device, which forms every batch: how the config splits it is a question of its own.
    target = None if recipe.target is None else recipe.target.model_copy(update={"horizon": None})
    alone = recipe.layout.model_copy(update={"devices": 1, "num_nodes": 1, "per_device_batch_size": None})
    return recommend(recipe.model_copy(update={"layout": alone, "target": target}), view, findings, batch_size=size)


def _horizon_examples(config: LaunchConfig, size: int | None, facts: Facts) -> int | None:
    # A Trainer with both ends at the one that comes first.
    stated = [length.value for length in (config.horizon, config.max_epochs) if length is not None]
    counted = [count for length in stated if (count := _examples(length, size, facts)) is not None]
    return min(counted, default=None)


def _examples(length: Duration, size: int | None, facts: Facts) -> int | None:
    if length.unit == "examples":
        return length.value
    if length.unit == "epochs":
        known = facts.get("training_examples")
        return length.value * known if isinstance(known, int) and known > 0 else None
    return None if size is None or length.unit == "tokens" else length.value * size
