"""Prices trials: examples, devices and time, from what trials of the study took."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from lrscale.recipe import Recipe
from lrscale.store import StudyView, TrialSpec
from lrscale.study.cost.step_times import StepTimes
from lrscale.study.cost.timed_trial import TimedTrial, kind_of, task_of, timed, validations_of
from lrscale.study.cost.trial_cost import Basis, TrialCost, weakest
from lrscale.study.specs import trial_layout
from lrscale.units import Layout, split_global_batch

START_SECONDS = 1.0
"""Start of a trial besides its training, where none has been measured and a throughput is stated. A guess, which the
first trial that ends replaces."""
FORWARD_SHARE = 1 / 3
"""Time of a forward alone as a share of forward and backward, which has twice its operations (Kaplan et al. 2020,
arXiv:2001.08361, section 2.1)."""


@final
@dataclass(frozen=True, slots=True)
class CostModel:
    """Time of a trial = start + steps x time of a step + validations x time of one, each as trials have measured it.

    Means, not medians: what further trials take together is a sum. The start holds all that is neither: processes,
    imports, the task's set-up, the excess of the first steps, checkpoints, the end.

    Parameters
    ----------
    recipe : Recipe
        Its layout, and the throughput that it states.
    timed_trials : sequence of TimedTrial
        What was measured; see `CostModel.of`.
    validation_examples : int or None, optional
        Size of the validation data, for times that follow from a stated throughput. Default None: not known.
    fits : int or None, optional
        Largest per-device batch that fits within the memory. Default None: not known.
    """

    recipe: Recipe
    timed_trials: Sequence[TimedTrial]
    validation_examples: int | None = None
    fits: int | None = None
    _steps: dict[tuple[str, tuple[str, ...], bool], StepTimes] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, recipe: Recipe, view: StudyView, facts: Mapping[str, Any], fits: int | None = None) -> CostModel:
        """Return what the finished trials of a study tell.

        Parameters
        ----------
        recipe : Recipe
        view : StudyView
            Its trials.
        facts : mapping
            What inspecting the task found.
        fits : int or None, optional
            Largest per-device batch that fits within the memory. Default None: not known.
        """
        found = [one for one in map(timed, view) if one is not None]
        size = facts.get("validation_examples")
        return cls(recipe, tuple(found), size if isinstance(size, int) else None, fits)

    @property
    def settled(self) -> bool:
        """Whether any trial went on beyond its first steps, so that its steps tell the time of others."""
        return any(trial.settled for trial in self.timed_trials)

    def cost(self, spec: TrialSpec) -> TrialCost:
        """Return what a trial is expected to take.

        Raises
        ------
        LayoutError
            When the recipe's devices cannot form its batch.
        """
        layout = trial_layout(self.recipe, spec, self.fits)
        steps, basis = self._all_steps(spec, layout)
        seconds = None
        if steps is not None:
            start = self._start(kind_of(spec), spec.layout is not None, layout.world_size)
            seconds = start + steps + self._validation(spec, layout)
        return TrialCost(examples=spec.own_examples, devices=layout.world_size, seconds=seconds, basis=basis)

    def _all_steps(self, spec: TrialSpec, layout: Layout) -> tuple[float | None, Basis]:
        """Return the seconds of all steps of a trial, each batch of one that grows at its own layout, and how."""
        if spec.batch_schedule is None:
            step, basis = self.step(spec, layout)
            return None if step is None else spec.course.steps * step, basis
        parts = []
        for multiple, count in Counter(spec.course.multiples()).items():
            size = multiple * spec.global_batch_size
            own = split_global_batch(
                size,
                devices=layout.devices,
                num_nodes=layout.num_nodes,
                max_per_device_batch_size=layout.per_device_batch_size,
            )
            step, basis = self.step(dataclasses.replace(spec, global_batch_size=size), own)
            parts.append((None if step is None else count * step, basis))
        times = [time for time, _ in parts if time is not None]
        return sum(times) if len(times) == len(parts) else None, weakest(basis for _, basis in parts) or "unknown"

    def spread(self) -> float | None:
        """Return the root mean square of the log ratio of what trials took to what they are priced at.

        None with fewer than two timed trials.
        """
        if len(self.timed_trials) < 2:
            return None
        misses = []
        for trial in self.timed_trials:
            step, _ = self._step_times(trial.task, trial.kind, trial.pinned).seconds(trial.layout)
            if step is not None:
                priced = self._start(trial.kind, trial.pinned, trial.layout.world_size) + trial.steps * step
                misses.append(math.log(max(trial.total - trial.validation, 1e-9) / max(priced, 1e-9)))
        return math.sqrt(sum(miss**2 for miss in misses) / len(misses)) if misses else None

    def step(self, spec: TrialSpec, layout: Layout) -> tuple[float | None, Basis]:
        """Return the seconds of a step of a trial at a layout, or None where nothing tells them, and how."""
        task = task_of(spec)
        step, basis = self._step_times(task, kind_of(spec), spec.layout is not None).seconds(layout)
        if step is not None and self._of(task)[0].task != task:
            # Another model was timed, and not this one.
            basis = "beyond"
        speed = self.recipe.cost.throughput
        if speed is not None and (step is None or not self.settled):
            return spec.global_batch_size / speed.value, "stated"
        return step, basis

    def _of(self, task: str) -> Sequence[TimedTrial]:
        own = [trial for trial in self.timed_trials if trial.task == task]
        return own or self.timed_trials

    def _step_times(self, task: str, kind: tuple[str, ...], pinned: bool) -> StepTimes:
        if (task, kind, pinned) not in self._steps:
            own = self._of(task)
            settled = [trial for trial in own if trial.settled]
            self._steps[task, kind, pinned] = StepTimes.of(
                [trial for trial in settled if trial.kind == kind],
                [trial for trial in settled if trial.pinned == pinned],
                settled,
                own,
                settled=bool(settled),
            )
        return self._steps[task, kind, pinned]

    def _start(self, kind: tuple[str, ...], pinned: bool, ranks: int) -> float:
        found = _mean(
            self.timed_trials,
            lambda trial: (trial.start, 1),
            (
                lambda trial: trial.kind == kind and trial.layout.world_size == ranks,
                lambda trial: trial.pinned == pinned and trial.layout.world_size == ranks,
                lambda trial: trial.layout.world_size == ranks,
                lambda _: True,
            ),
        )
        return START_SECONDS if found is None else found

    def _validation(self, spec: TrialSpec, layout: Layout) -> float:
        count = validations_of(spec)
        if count == 0:
            return 0.0
        each = _mean(
            [trial for trial in self._of(task_of(spec)) if trial.validations],
            lambda trial: (trial.validation, trial.validations),
            (
                # The first validation starts the workers of its loader: trials that validate as often know it best.
                lambda trial: trial.validations == count and trial.layout.world_size == layout.world_size,
                lambda trial: trial.layout.world_size == layout.world_size,
                lambda _: True,
            ),
        )
        if each is not None:
            return count * each
        speed = self.recipe.cost.throughput
        if self.timed_trials or speed is None or self.validation_examples is None:
            return 0.0
        # Every rank validates on its share.
        return count * FORWARD_SHARE * self.validation_examples / speed.value


def _mean(
    trials: Iterable[TimedTrial],
    part: Callable[[TimedTrial], tuple[float, int]],
    preferences: Sequence[Callable[[TimedTrial], bool]],
) -> float | None:
    """Return the mean of a part over the trials of the first preference that any trial meets; None of no trial."""
    for preference in preferences:
        parts = [part(trial) for trial in trials if preference(trial)]
        if parts:
            return sum(seconds for seconds, _ in parts) / sum(count for _, count in parts)
    return None
