"""A scheduler of the user's own as the course of a trial."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any, final

import torch

from lrscale.errors import TaskError
from lrscale.schedules import Constant, Warmup
from lrscale.store import ScheduleSpec
from lrscale.training.instantiate import accepts, check_arguments, import_object, init_args

HORIZON = "horizon"
"""Text in ``init_args`` that stands for how often the scheduler is stepped behind the warm-up."""


@final
class UserScheduler:
    """Steps a scheduler on an optimizer of its own, whose LR is 1: what it does to that is the factor of the peak.

    So learning rates among its arguments, such as ``eta_min`` and ``max_lr``, are shares of the peak, parameter groups
    keep their ratios, and every rank sees the same course. It is no pure function of the position: it has a state, and
    may follow the validation loss, which is that of all ranks together.

    Parameters
    ----------
    settings : mapping
        ``class_path`` of a class or function that takes an optimizer, ``init_args``, and ``interval``: ``step`` or
        ``epoch``. One that takes a metric, such as ``ReduceLROnPlateau``, is stepped after each validation instead.
    horizon : int
        Optimizer steps of the trial.
    warmup : ScheduleSpec
        Says of the warm-up in front of it.
    """

    def __init__(self, settings: Mapping[str, Any], horizon: int, warmup: ScheduleSpec) -> None:
        self._settings = settings
        self._horizon = horizon
        self._warmup_steps = warmup.warmup_steps
        self._rise = Warmup(steps=warmup.warmup_steps, then=Constant(), shape=warmup.warmup_shape)
        self._by_epoch = settings.get("interval", "step") == "epoch"
        self._optimizer: Any = None
        self._scheduler: Any = None
        self._follows_loss = False
        self._taken = 0
        self._position = 0
        self._momentum: float | None = None

    @property
    def follows_loss(self) -> bool:
        """Whether it is stepped with the loss after each validation."""
        return self._follows_loss

    @property
    def kind(self) -> str:
        """The name of its class or function."""
        return str(self._settings["class_path"]).rpartition(".")[2]

    def begin(self, group: Mapping[str, Any], epochs: int | None) -> None:
        """Build the scheduler, once the trial's optimizers and epochs are known.

        Parameters
        ----------
        group : mapping
            The first parameter group that is led; its momentum is where the scheduler's momentum begins.
        epochs : int or None
            Epochs of the trial; None for a stream without.

        Raises
        ------
        TaskError
            When there is no such class, or when it takes no such arguments.
        """
        momentum = group["betas"][0] if "betas" in group else group.get("momentum", 0.0)
        self._optimizer = torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=1.0, momentum=float(momentum))
        self._momentum = float(momentum)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._scheduler = self._build(self._settings, "the schedule", self._length(epochs))
        if not callable(getattr(self._scheduler, "step", None)):
            raise TaskError(f"{self._settings['class_path']} makes a {type(self._scheduler).__name__} without step()")
        self._follows_loss = _takes_metric(self._scheduler)

    def factor(self, position: int, horizon: int) -> float:
        """Return the multiplier of the peak LR at a step; positions must not fall."""
        behind = position - self._warmup_steps
        self._position = position
        if not (self._by_epoch or self._follows_loss):
            while self._taken < behind:
                self._advance()
        value = float(self._optimizer.param_groups[0]["lr"])
        return value if behind >= 0 else value * self._rise.factor(position, horizon)

    def momentum(self, position: int, horizon: int) -> float | None:
        """Return the momentum that the scheduler has set, or None where it leaves it alone."""
        del position, horizon
        found = float(self._optimizer.param_groups[0]["momentum"])
        return None if found == self._momentum else found

    def end_epoch(self) -> None:
        """Step a scheduler that counts epochs; those of the warm-up do not count."""
        if self._by_epoch and not self._follows_loss and self._position >= self._warmup_steps:
            self._advance()

    def validated(self, loss: float) -> None:
        """Step a scheduler that follows the loss; validations of the warm-up do not count."""
        if self._follows_loss and self._position >= self._warmup_steps:
            self._advance(loss)

    def _advance(self, *metric: float) -> None:
        self._taken += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._optimizer.step()
            self._scheduler.step(*metric)

    def _length(self, epochs: int | None) -> int | None:
        steps = max(1, self._horizon - self._warmup_steps)
        if not self._by_epoch:
            return steps
        return None if epochs is None else max(1, math.ceil(epochs * steps / self._horizon))

    def _build(self, node: Mapping[str, Any], where: str, length: int | None) -> Any:
        kind = import_object(node["class_path"])
        arguments = {
            name: self._value(value, f"{where}.init_args.{name}", length) for name, value in init_args(node).items()
        }
        if accepts(kind, "optimizer"):
            arguments["optimizer"] = self._optimizer
        elif where == "the schedule":
            raise TaskError(
                f"{node['class_path']} takes no optimizer, so it is no scheduler",
                hint="name a class such as torch.optim.lr_scheduler.StepLR, or a function of an optimizer",
            )
        return kind(**check_arguments(kind, arguments, where, node["class_path"]))

    def _value(self, value: Any, where: str, length: int | None) -> Any:
        if value == HORIZON:
            if length is None:
                raise TaskError(
                    f"{where} is the horizon in epochs, and the data are a stream without",
                    hint="use interval: step, or state a number",
                )
            return length
        if isinstance(value, Mapping):
            if "class_path" in value and set(value) <= {"class_path", "init_args"}:
                return self._build(value, where, length)
            return {key: self._value(item, f"{where}.{key}", length) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, f"{where}[{index}]", length) for index, item in enumerate(value)]
        return value


def _takes_metric(scheduler: Any) -> bool:
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        return True
    needed = [
        one
        for one in inspect.signature(scheduler.step).parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) == 1
