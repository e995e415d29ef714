"""The callback that applies a recommendation to a training job."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrscale.errors import LrscaleError
from lrscale.recommend import Recommendation
from lrscale.recommend.recommendation import MODULE
from lrscale.schedules import AbstractSchedule, group_base_lr, momentum_setting, scaled_lrs
from lrscale.units import Layout

_FLAVOURS = ("lightning.pytorch", "pytorch_lightning")


def _bases() -> tuple[type, ...]:
    # The two packages are the same code twice. A Trainer runs a callback of either, but a LightningCLI checks the type,
    # so that this one is a callback of every flavour that the job has loaded, or of all that there are.
    loaded = [name for name in _FLAVOURS if name in sys.modules]
    present = loaded or [name for name in _FLAVOURS if importlib.util.find_spec(name.partition(".")[0]) is not None]
    return tuple(importlib.import_module(name).Callback for name in present)


if TYPE_CHECKING:
    from pytorch_lightning import Callback as _Callback
else:
    _Callback = type("_Callback", _bases(), {"__doc__": "A callback of every loaded flavour of Lightning."})


class ApplyRecommendation(_Callback):
    """Train with the recommended LR and schedule.

    At the start of a fit it takes hold of the optimizers and gives every parameter group its share of the recommended
    peak LR: the first group of the first optimizer gets the peak, the others keep their ratio to it, as in the trials.
    Before every optimizer step it sets the LR (and momentum, for schedules that move it) from the step's number alone,
    so that a resumed job goes on where it stopped. The module's own schedulers are replaced, with a warning, unless the
    study followed them. Where the trials moved betas, eps or weight decay with the batch size, the groups get the
    recommended values once; otherwise these are left alone.

    Parameters
    ----------
    recommendation : str, Path or Recommendation
        recommendation.yaml, the study folder that holds it, or the recommendation itself.
    horizon_steps : int or None, optional
        Optimizer steps over which the schedule runs. Default None: the job's own number of steps, or the recommended
        one where the job has no end of its own. The warm-up keeps its share of it.

    Warns
    -----
    UserWarning
        When a scheduler is replaced, and when the job's global batch or length differs from the recommended one. Only
        rank 0 warns.

    Raises
    ------
    LrscaleError
        When the recommendation cannot be read.

    Examples
    --------
    >>> trainer = Trainer(callbacks=[ApplyRecommendation("study/recommendation.yaml")])  # doctest: +SKIP
    """

    def __init__(self, recommendation: str | Path | Recommendation, horizon_steps: int | None = None) -> None:
        if not isinstance(recommendation, Recommendation):
            recommendation = Recommendation.load(recommendation)
        if horizon_steps is not None and horizon_steps < 1:
            raise LrscaleError(f"horizon_steps must be at least 1, not {horizon_steps}")
        self.recommendation = recommendation
        self._given_horizon = horizon_steps
        self._horizon = 0
        self._schedule: AbstractSchedule | None = None
        self._base_lrs: list[float] = []
        self._manual_optimizers = 0

    @property
    def horizon_steps(self) -> int:
        """Optimizer steps over which the schedule runs; 0 before the fit."""
        return self._horizon

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Take hold of the optimizers, before a checkpoint's state is put into them."""
        optimizers = _optimizers(trainer)
        if not optimizers:
            raise LrscaleError("the module has no optimizer", hint="return one from configure_optimizers")
        self._base_lrs = [group_base_lr(group) for optimizer in optimizers for group in optimizer.param_groups]
        self._manual_optimizers = 0 if pl_module.automatic_optimization else len(optimizers)
        one = self.recommendation
        self._move_companions(trainer, optimizers)
        if one.schedule.name == MODULE:
            self._schedule = None
            # The shape is the module's; only its height is set, in the groups and in the schedulers' own copies.
            from lrscale.training.lr_control import LRControl

            first = one.schedule.first_group_lr
            control = LRControl(None, one.peak_lr if first is None else first, one.horizon_steps)
            control.attach(optimizers, trainer.strategy.lr_scheduler_configs)
            self._horizon = self._job_steps(trainer) or one.horizon_steps
        else:
            self._horizon = self._given_horizon or self._job_steps(trainer) or one.horizon_steps
            self._schedule = one.schedule_for(self._horizon)
            self._replace_schedulers(trainer)
            self._set(trainer, 0)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Compare the job with the recommendation, now that its data are loaded."""
        del pl_module
        self._compare(trainer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the LR of the coming step, where modules and loggers see it."""
        del pl_module, batch, batch_idx
        self._set(trainer, self._position(trainer))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Set the LR again: a module with manual optimization may have stepped a scheduler in between."""
        del pl_module, optimizer
        self._set(trainer, self._position(trainer))

    def _move_companions(self, trainer: Any, optimizers: list[Any]) -> None:
        companions = self.recommendation.companions
        if companions is None:
            return
        groups = [(type(optimizer).__name__, group) for optimizer in optimizers for group in optimizer.param_groups]
        if len(groups) != len(companions.groups):
            _warn(
                trainer,
                f"the job has {len(groups)} parameter groups and the study had {len(companions.groups)}: their betas, "
                "eps and weight decay are left as they are",
            )
            return
        for place, (optimizer, group) in enumerate(groups):
            group.update(companions.settings_of(place, group, optimizer))

    def _set(self, trainer: Any, step: int) -> None:
        if self._schedule is None:
            return
        position = min(step, self._horizon - 1)
        factor = self._schedule.factor(position, self._horizon)
        momentum = self._schedule.momentum(position, self._horizon)
        groups = [group for optimizer in _optimizers(trainer) for group in optimizer.param_groups]
        lrs = scaled_lrs(self._base_lrs, self._base_lrs[0], self.recommendation.peak_lr, factor)
        for group, lr in zip(groups, lrs, strict=True):
            if hasattr(group["lr"], "fill_"):
                # Capturable optimizers keep the LR in a tensor that a graph has seen.
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
            if momentum is not None:
                group.update(momentum_setting(group, momentum))
        for config in trainer.strategy.lr_scheduler_configs:
            # What get_last_lr() answers.
            if hasattr(config.scheduler, "_last_lr"):
                config.scheduler._last_lr = [float(group["lr"]) for group in config.scheduler.optimizer.param_groups]

    def _position(self, trainer: Any) -> int:
        # With manual optimization Lightning counts every optimizer's step, two a batch for two optimizers; a step of
        # the schedule is a batch there, as it is in the trials.
        if self._manual_optimizers:
            return max(0, int(trainer.fit_loop.epoch_loop.total_batch_idx))
        return int(trainer.global_step)

    def _job_steps(self, trainer: Any) -> int | None:
        steps = trainer.estimated_stepping_batches
        if steps in (float("inf"), -1) or steps < 1:
            return None
        if self._manual_optimizers > 1 and trainer.max_steps != -1:
            return max(1, int(steps) // self._manual_optimizers)
        return int(steps)

    def _replace_schedulers(self, trainer: Any) -> None:
        configs = trainer.strategy.lr_scheduler_configs
        if not configs:
            return
        kinds = ", ".join(sorted({type(config.scheduler).__name__ for config in configs}))
        _warn(trainer, f"the module's own {kinds} is replaced by the recommended {self.recommendation.schedule.name}")
        for config in configs:
            # They stay, because modules and loggers ask them for the LR, and because a module with manual optimization
            # steps them itself; Lightning steps none of them, and what they set is set again before every step.
            config.interval, config.frequency = "step", sys.maxsize

    def _compare(self, trainer: Any) -> None:
        one = self.recommendation
        size = _global_batch_size(trainer)
        if size is not None and size != one.global_batch_size:
            _warn(
                trainer,
                f"the job's global batch is {size}, and the recommended LR is for {one.global_batch_size}: set "
                f"{one.per_device_batch_size} per device x accumulate_grad_batches {one.accumulate_grad_batches} on "
                f"{one.devices} devices x {one.num_nodes} nodes, or ask for another batch: lrscale recommend STUDY "
                f"--batch-size {size}",
            )
        examples = self._horizon * (size or one.global_batch_size)
        if abs(examples / one.horizon_examples - 1) > 0.01:
            _warn(
                trainer,
                f"the job runs for {self._horizon} steps, {examples} examples, and the recommendation is for "
                f"{one.horizon_steps} steps, {one.horizon_examples} examples: the best LR moves with length, and it is "
                "not scaled here",
            )


def _optimizers(trainer: Any) -> list[Any]:
    # Wrappers such as Lightning's own keep the real optimizer in `optimizer`.
    return [getattr(optimizer, "optimizer", optimizer) for optimizer in trainer.strategy.optimizers]


def _global_batch_size(trainer: Any) -> int | None:
    loader = trainer.train_dataloader
    sampler = getattr(loader, "batch_sampler", None)
    for holder in (loader, sampler):
        size = getattr(holder, "batch_size", None)
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            # Lightning's world size counts devices of all nodes.
            layout = Layout(
                per_device_batch_size=size,
                accumulate=int(trainer.accumulate_grad_batches),
                devices=int(trainer.world_size),
            )
            return layout.global_batch_size
    return None


def _warn(trainer: Any, message: str) -> None:
    if trainer.is_global_zero:
        warnings.warn(message, UserWarning, stacklevel=2)
