"""What happens during a trial whose batch grows, that branches off from another, or whose state is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lrscale.batch_schedules import BatchCourse
from lrscale.errors import TaskError
from lrscale.training.branch import Branch
from lrscale.training.course_batches import CourseBatches, StepLayouts
from lrscale.training.divergence import DivergenceWatch
from lrscale.training.hooks import TrialHooks
from lrscale.training.keep_state import StateKeeper


class CourseHooks(TrialHooks):
    """Hooks of a trial that does not go from its first step to its last at one batch size.

    Parameters
    ----------
    course : BatchCourse
        The steps.
    layouts : StepLayouts or None
        How each batch is split; None where the Trainer's own accumulation holds throughout.
    batches : callable
        Returns what forms the batches, once it is there; None where the loaders do so.
    branch : Branch or None
        What the trial goes on from.
    keeper : StateKeeper or None
        Keeps states on the way.
    watch : DivergenceWatch
        Kept with them.
    **parts
        Those of `TrialHooks`.
    """

    def __init__(
        self,
        *,
        course: BatchCourse,
        layouts: StepLayouts | None,
        batches: Callable[[], CourseBatches | None],
        branch: Branch | None,
        keeper: StateKeeper | None,
        watch: DivergenceWatch,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self._course = course
        self._layouts = layouts
        self._batches = batches
        self._branch = branch
        self._keeper = keeper
        self._watch = watch
        self._forward = 0
        self._to_keep = False

    @property
    def position(self) -> int:
        """Base steps done."""
        return self._course.edges[self._recorder.steps]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Put the state in place and take hold of epochs and accumulation."""
        super().on_train_start(trainer, pl_module)
        batches = self._batches()
        if self._branch is not None:
            # After the LR control, which takes the groups as the module has built them for its reference.
            self.facts["branch"] = self._branch.load(trainer, pl_module)
            self.notes += self._branch.notes
            self._branch.restore_random()
        if batches is not None:
            self._begin_in_the_middle(trainer, batches)
            trainer.fit_loop.max_epochs = batches.epochs
        if self._layouts is not None:
            self._take_accumulation(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Tell the loop how many batches this epoch has, and keep what waited for the end of the last."""
        batches = self._batches()
        if batches is not None:
            trainer.fit_loop._combined_loader.limits = [len(batches)]
            trainer.fit_loop.max_batches = len(batches)
        self._keep_if_waiting(trainer, pl_module)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the number of forwards of a step before its first one."""
        if self._layouts is not None and self._new_step:
            self._forwards = self._layouts.of(self._course.multiple(self._recorder.steps)).accumulate
            if self._automatic:
                trainer.accumulate_grad_batches = self._forwards
            elif self._forwards > 1:
                raise TaskError(
                    f"{type(pl_module).__name__} steps its optimizers itself, so its batch cannot be accumulated over "
                    f"{self._forwards} forwards",
                    hint="raise layout.max_per_device_batch_size or layout.devices",
                )
            self._forward = 0
        self._forward += 1
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep what waited for the end of the epoch."""
        self._keep_if_waiting(trainer, pl_module)

    def after_batch(self, trainer: Any, module: Any) -> None:
        """Keep the state where it is asked for; at the end of an epoch, after what the module does there."""
        if self._keeper is None or not self._new_step or not self._keeper.due(self.position):
            return
        self._to_keep = True
        if not trainer.is_last_batch:
            self._keep_if_waiting(trainer, module)

    def _keep_if_waiting(self, trainer: Any, module: Any) -> None:
        if not self._to_keep or self._keeper is None:
            return
        self._to_keep = False
        self._recorder.flush()
        steps = self._recorder.steps + (0 if self._branch is None else self._branch.steps)
        self._keeper.keep(trainer, module, position=self.position, steps=steps, watch=self._watch)

    def _completes_step(self, trainer: Any) -> bool:
        return super()._completes_step(trainer) if self._layouts is None else self._forward >= self._forwards

    def _validates_here(self, every: int) -> bool:
        steps = self._recorder.steps
        before, here = self._course.edges[steps - 1], self._course.edges[steps]
        return steps == self._course.steps or (every > 0 and here // every > before // every)

    def _begin_in_the_middle(self, trainer: Any, batches: CourseBatches) -> None:
        # Lightning counts epochs and batches in its loops; tests hold these names in place.
        loop, branch = trainer.fit_loop, self._branch
        progress = loop.epoch_progress
        for part in (progress.current, progress.total):
            for name in ("ready", "started", "processed", "completed"):
                setattr(part, name, batches.first_epoch)
        if branch is None:
            return
        if not batches.begins_epoch:
            # An iterator of the loader draws from the generators when it is made. In the trial this one goes on from
            # it was made when the epoch began, before the states were kept.
            batches.begin_again()
            batches.before_first = branch.restore_random
        counts, before = loop.epoch_loop.batch_progress, batches.forwards_before
        reset = counts.reset_on_run

        def reset_to_the_middle() -> None:
            reset()
            del counts.reset_on_run
            for name in ("ready", "started", "processed", "completed"):
                setattr(counts.current, name, before)

        counts.reset_on_run = reset_to_the_middle

    def _take_accumulation(self, trainer: Any) -> None:
        # Lightning counts forwards from the beginning of an epoch, in groups of one size.
        loop = trainer.fit_loop.epoch_loop
        loop._accumulated_batches_reached = lambda: self._forward >= self._forwards
        optimization = loop.automatic_optimization
        own = optimization._make_zero_grad_fn

        def make_zero_grad(batch_idx: int, optimizer: Any) -> Any:
            del batch_idx
            # It asks whether the forward is the first of its group.
            return own(0 if self._forward == 1 else 1, optimizer)

        optimization._make_zero_grad_fn = make_zero_grad
