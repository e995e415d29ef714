"""The only place that sets a learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, final

from lrscale.errors import TaskError
from lrscale.schedules import AbstractSchedule
from lrscale.schedules.groups import group_base_lr, momentum_setting, scaled_lrs
from lrscale.training.user_scheduler import UserScheduler

_GROUP_KEYS = ("lr", "initial_lr", "max_lr", "min_lr")
_SCHEDULER_KEYS = ("base_lrs", "max_lrs", "min_lrs", "eta_min", "_last_lr")
_NEVER = "replaced by the trial"
"""Interval of a scheduler that Lightning is not to step."""
SAME_LR = 1e-6
"""Relative difference below which two LRs are the same setting."""


@final
class LRControl:
    """Multiplies every parameter group of every optimizer, or of one of them, by one factor per step.

    The peak LR is that of the first group of the first optimizer led; the other groups keep their ratio to it.

    Parameters
    ----------
    schedule : AbstractSchedule, UserScheduler or None
        None leaves the course to the module's own schedulers, scaled to the peak.
    peak_lr : float
        LR of the reference group at factor 1.
    horizon : int
        Optimizer steps of the trial.
    told : str or None, optional
        Where the task was told the peak LR before it was built, if it was. Default None.
    optimizer : int or None, optional
        Number of the only optimizer that follows the schedule; the groups of the others stay at the LR that they were
        built with. Default None: all follow it.
    """

    def __init__(
        self,
        schedule: AbstractSchedule | UserScheduler | None,
        peak_lr: float,
        horizon: int,
        told: str | None = None,
        optimizer: int | None = None,
    ) -> None:
        self._schedule = schedule
        self._current = schedule
        self._validations: list[tuple[int, float]] = []
        self._peak_lr = peak_lr
        self._horizon = horizon
        self._told = told
        self._optimizer = optimizer
        self._groups: list[dict[str, Any]] = []
        self._base_lrs: list[float] = []
        self._held: list[tuple[dict[str, Any], float]] = []
        self._lrs: list[float] = []
        self._reference = 1.0
        self._highest = 0.0
        self.notes: list[str] = []

    def attach(
        self, optimizers: Iterable[Any], scheduler_configs: list[Any], epochs: int | None = None
    ) -> dict[str, Any]:
        """Take hold of the optimizers once they exist, and return the facts about them.

        Parameters
        ----------
        optimizers : iterable of Optimizer
            All of the module.
        scheduler_configs : list
            Lightning's, of the module's own schedulers.
        epochs : int or None, optional
            Epochs that the trial takes. Default None: the data have none.

        Raises
        ------
        TaskError
            When there is no optimizer, none of the asked number, or when the reference LR is 0.
        """
        optimizers = [getattr(optimizer, "optimizer", optimizer) for optimizer in optimizers]
        if not optimizers or not any(optimizer.param_groups for optimizer in optimizers):
            raise TaskError(
                "the module has no optimizer", hint="return one from configure_optimizers, or add it to the CLI config"
            )
        led = self._led(optimizers)
        self._groups = [group for optimizer in led for group in optimizer.param_groups]
        others = [group for optimizer in optimizers if optimizer not in led for group in optimizer.param_groups]
        self._held = [(group, group_base_lr(group)) for group in others]
        self._base_lrs = [group_base_lr(group) for group in self._groups]
        self._reference = self._base_lrs[0]
        scaled_lrs(self._base_lrs, self._reference, self._peak_lr, 1.0)
        if self._told and self._schedule is not None and abs(self._reference / self._peak_lr - 1) > SAME_LR:
            self.notes.append(
                f"{self._told} was set to {self._peak_lr:.4g} and the first parameter group came out with "
                f"{self._reference:.4g}: LRs of this study are those of the first group"
            )
        if isinstance(self._schedule, UserScheduler):
            self._schedule.begin(self._groups[0], epochs)
        kinds = sorted({type(config.scheduler).__name__ for config in scheduler_configs})
        if self._schedule is None:
            self._scale_schedulers(scheduler_configs)
        elif scheduler_configs:
            # They stay where they are, since modules ask them for the LR to log it; Lightning steps none of them.
            for config in scheduler_configs:
                config.interval = _NEVER
            self.notes.append(f"the module's own {', '.join(kinds)} is replaced by the trial's schedule")
        return {
            "optimizers": [type(optimizer).__name__ for optimizer in optimizers],
            "group_lrs": self._base_lrs,
            "reference_lr": self._reference,
            "beta2": _beta2(self._groups[0]),
            "own_schedulers": kinds,
        }

    def before_step(self, step: int) -> float:
        """Set the LR, and momentum where the schedule moves it, of step number `step`, counted from 0.

        Returns
        -------
        float
            LR of the reference group.
        """
        if self._current is None:
            lr = float(self._groups[0]["lr"])
            self._highest = max(self._highest, lr)
            return lr
        factor = self._current.factor(step, self._horizon)
        self._lrs = scaled_lrs(self._base_lrs, self._reference, self._peak_lr, factor)
        for group, lr in zip(self._groups, self._lrs, strict=True):
            _assign(group, "lr", lr)
        for group, lr in self._held:
            _assign(group, "lr", lr)
        momentum = self._current.momentum(step, self._horizon)
        if momentum is not None:
            for group in self._groups:
                group.update(momentum_setting(group, momentum))
        return self._lrs[0]

    def reassert(self) -> None:
        """Put back the step's LRs where the module has set its own since, as a warm-up in ``optimizer_step`` does.

        Called after the backward, which is the last moment before an optimizer reads its groups.
        """
        for group, lr in (*zip(self._groups, self._lrs, strict=False), *(self._held if self._lrs else ())):
            if group["lr"] != lr and abs(float(group["lr"]) - lr) > SAME_LR * lr:
                _assign(group, "lr", lr)
                note = "the module sets its LR itself while it trains; the trial's schedule is put in its place"
                if note not in self.notes:
                    self.notes.append(note)

    def validated(self, steps: int, loss: float) -> None:
        """Tell a schedule that follows the loss of a validation, which all ranks agree on."""
        self._validations.append((steps, loss))
        if isinstance(self._schedule, UserScheduler):
            self._schedule.validated(loss)
        elif self._schedule is not None:
            self._current = self._schedule.told(self._validations)

    def end_epoch(self) -> None:
        """Tell a schedule that counts epochs of the end of one."""
        if isinstance(self._schedule, UserScheduler):
            self._schedule.end_epoch()

    def closing_notes(self) -> list[str]:
        """Return what shows only at the end: how far the module's own schedule went up, and what none was told."""
        if self._follows_loss and not self._validations:
            self.notes.append("the schedule follows the validation loss, and there was no validation: it never moved")
        if self._schedule is None and self._highest and abs(self._highest / self._peak_lr - 1) > 0.01:
            share = self._highest / self._peak_lr
            self.notes.append(f"the module's own schedule went up to {share:.3g} times the peak LR of the trial")
        return self.notes

    @property
    def _follows_loss(self) -> bool:
        if isinstance(self._schedule, UserScheduler):
            return self._schedule.follows_loss
        return self._schedule is not None and not self._schedule.is_pure

    def _led(self, optimizers: list[Any]) -> list[Any]:
        if self._optimizer is None:
            return optimizers
        if self._optimizer >= len(optimizers):
            raise TaskError(
                f"the module has {len(optimizers)} optimizers, so there is none of number {self._optimizer}",
                hint="they are counted from 0 in the order of configure_optimizers",
            )
        return [optimizers[self._optimizer]]

    def _scale_schedulers(self, scheduler_configs: list[Any]) -> None:
        # A module that was told the peak has built its schedule to it already: a warm-up may start at a tenth of it.
        ratio = 1.0 if self._told else self._peak_lr / self._reference
        for group in self._groups:
            for key in _GROUP_KEYS:
                if isinstance(group.get(key), (int, float)) or hasattr(group.get(key), "fill_"):
                    _assign(group, key, float(group[key]) * ratio)
        for config in scheduler_configs:
            _scale_scheduler(config.scheduler, ratio, set())
            # A plateau scheduler asks for its metric at times when a trial may not have validated yet.
            config.strict = False


def _scale_scheduler(scheduler: Any, ratio: float, done: set[int]) -> None:
    # Sequential, chained and warm-up schedulers hold others; each keeps its own copy of the base LRs.
    if id(scheduler) in done:
        return
    done.add(id(scheduler))
    for inner in (*getattr(scheduler, "_schedulers", ()), getattr(scheduler, "after_scheduler", None)):
        if inner is not None:
            _scale_scheduler(inner, ratio, done)
    for key in _SCHEDULER_KEYS:
        value = getattr(scheduler, key, None)
        if isinstance(value, list):
            setattr(scheduler, key, [item * ratio for item in value])
        elif isinstance(value, (int, float)):
            setattr(scheduler, key, value * ratio)


def _beta2(group: Mapping[str, Any]) -> float | None:
    betas = group.get("betas")
    return float(betas[1]) if isinstance(betas, (tuple, list)) and len(betas) > 1 else None


def _assign(group: dict[str, Any], key: str, value: float) -> None:
    # Capturable optimizers keep the LR in a tensor that a graph has seen: change it in place.
    if hasattr(group[key], "fill_"):
        group[key].fill_(value)
    else:
        group[key] = value
