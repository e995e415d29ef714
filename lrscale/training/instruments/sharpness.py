"""The instrument that measures how far the LR is from the edge of stability, along the update that was made."""

from __future__ import annotations

import contextlib
import inspect
import math
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.laws.stability import SharpnessPoint, find_critical_step, sharpness_course
from lrscale.training.instruments.base import INSTRUMENTS, AbstractInstrument
from lrscale.training.instruments.batch_split import untouched
from lrscale.training.instruments.layout_refusal import holds_whole_gradient
from lrscale.training.monitor import loss_of

ROUNDING = 4 * 2.0**-23
"""Relative error of a mean of 32-bit losses, taken generously."""
WIDE_ENOUGH = (torch.float32, torch.float64)
"""Types of parameters in which a fraction of an update can be told from none."""


@final
@INSTRUMENTS.register("sharpness")
class SharpnessInstrument(AbstractInstrument):
    """Every so many steps, finds the multiple of the optimizer's own update that would have raised the loss.

    The update is the difference of the parameters before and after the step: clipping, momentum, weight decay and the
    groups' LRs are in it. The loss of the same batch, the mean over its micro-batches and over all ranks, is computed
    again at multiples of the update, in full precision and with the same random numbers each time, and the parameters
    are put back bit for bit. All ranks see the same losses and try the same multiples.

    Parameters
    ----------
    every : int, optional
        Steps from one measurement to the next, at least 1. Default 50.
    evaluations : int, optional
        Most multiples tried in a measurement, 2 to 20; each costs a forward of the batch, and one more is made for the
        loss before the step. Default 8.
    """

    def __init__(self, *, every: int = 50, evaluations: int = 8) -> None:
        for name, value, least, most in (("every", every, 1, math.inf), ("evaluations", evaluations, 2, 20)):
            if not least <= value <= most:
                raise LrscaleError(f"sharpness: {name} is {value}", hint=f"use {least} to {most:g}")
        self._every = every
        self._evaluations = evaluations
        self._points: list[SharpnessPoint] = []
        self._reason: str | None = "no fit has begun"
        self._unmoved = 0
        self._world_size = 1
        self._global_step = 0
        self._batches: list[tuple[Any, int]] = []
        self._leaves: list[Tensor] = []
        self._before: list[Tensor] = []
        self._lr = math.nan
        self._start = 1.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin; what an earlier fit left is forgotten."""
        self._points, self._unmoved, self._start = [], 0, 1.0
        self._global_step = int(trainer.global_step)
        self._world_size = int(trainer.world_size)
        self._forget()
        self._reason = _refusal(trainer, pl_module)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the batches of a step that is measured."""
        del pl_module
        if self._reason is None and int(trainer.global_step) % self._every == 0:
            self._batches.append((_kept(batch), batch_idx))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Keep the parameters before the step, and its LR."""
        del trainer, pl_module
        if not self._batches:
            return
        found = {id(leaf): leaf for group in optimizer.param_groups for leaf in group["params"] if leaf.requires_grad}
        self._leaves = list(found.values())
        self._before = [leaf.detach().clone() for leaf in self._leaves]
        self._lr = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure when the step is done."""
        del outputs, batch, batch_idx
        step = int(trainer.global_step)
        if step == self._global_step:
            return
        self._global_step = step
        if self._batches and self._before:
            self._measure(trainer, pl_module, step)
        self._forget()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Give the memory back."""
        del trainer, pl_module, exception
        self._forget()

    @override
    def measurement(self) -> dict[str, Any]:
        """Return `lrscale.laws.stability.SharpnessCourse` as JSON values."""
        return sharpness_course(self._points, missing=self._reason).to_dict()

    @override
    def remarks(self) -> list[str]:
        return [f"sharpness: measuring ended: {self._reason}"] if self._points and self._reason else []

    def _measure(self, trainer: Any, module: Any, step: int) -> None:
        after = [leaf.detach().clone() for leaf in self._leaves]
        # A loss scaler may have left the step out, on all ranks alike.
        if all(torch.equal(one, other) for one, other in zip(self._before, after, strict=True)):
            self._unmoved += 1
            return

        def loss_at(multiple: float) -> float:
            with torch.no_grad():
                for leaf, one, other in zip(self._leaves, self._before, after, strict=True):
                    leaf.copy_(torch.lerp(one, other, multiple))
            return self._loss(trainer, module)

        try:
            reference = loss_at(0.0)
            found = find_critical_step(
                lambda multiple: _resolved(loss_at(multiple) - reference, reference),
                start=self._start,
                evaluations=self._evaluations,
            )
        finally:
            with torch.no_grad():
                for leaf, other in zip(self._leaves, after, strict=True):
                    leaf.copy_(other)
        if self._reason is not None or not math.isfinite(reference):
            return
        value = found.value if found.value is not None else found.lo if found.hi is None else found.hi
        assert value is not None
        if found.status != "below":
            self._start = value
        bound = None if found.status == "ok" else found.status
        self._points.append(SharpnessPoint(step=step, lr=self._lr, margin=value, bound=bound))

    def _loss(self, trainer: Any, module: Any) -> float:
        """Return the mean loss of the step's batches over all ranks, NaN where a rank could not compute it.

        Every rank enters the exchange, whatever its own forward did.
        """
        device = trainer.strategy.root_device
        mean = torch.full((), math.nan, device=device)
        try:
            with untouched(trainer, module):
                losses = [self._forward(trainer, module, batch, number) for batch, number in self._batches]
            mean = torch.stack(losses).mean().to(device)
        except Exception as error:  # whatever a stranger's training_step does when it is called once more
            self._reason = f"training_step fails when it is called again, {type(error).__name__}: {error}"
        failed = torch.full((), float(self._reason is not None), device=device)
        whole = torch.stack([mean.float(), failed])
        if self._world_size > 1:
            torch.distributed.all_reduce(whole)
        loss, failures = whole.tolist()
        if failures and self._reason is None:
            self._reason = "training_step fails on another rank when it is called again"
        return float(loss) / self._world_size

    def _forward(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> Tensor:
        count = len(inspect.signature(module.training_step).parameters)
        # Without autocast: the differences that are looked for are below what half precision resolves.
        mixed = any(kind.__name__ == "MixedPrecision" for kind in type(trainer.precision_plugin).__mro__)
        context = contextlib.nullcontext() if mixed else trainer.precision_plugin.train_step_context()
        # Gradients stay on: a module may ask for one inside of its step, as gradient penalties do.
        with torch.enable_grad(), context:
            loss = loss_of(module.training_step(*(_kept(batch), batch_idx)[:count]))
        if loss is None:
            raise ValueError("it returned no loss")
        mean: Tensor = loss.detach().float().mean()
        return mean

    def _forget(self) -> None:
        self._batches, self._before, self._leaves = [], [], []


def _resolved(excess: float, reference: float) -> float:
    """Return a difference of two losses, 0 where it is within their rounding."""
    return 0.0 if abs(excess) <= ROUNDING * abs(reference) else excess


def _refusal(trainer: Any, module: Any) -> str | None:
    """Return why the margin of a fit cannot be measured, or None."""
    name = type(module).__name__
    if not module.automatic_optimization:
        return f"{name} steps its optimizers itself, and which batch a step belongs to is not known"
    if not holds_whole_gradient(trainer.strategy):
        return f"under {type(trainer.strategy).__name__} a rank does not hold all parameters"
    if len(inspect.signature(module.training_step).parameters) > 2:
        return f"training_step of {name} takes more than a batch and its number"
    kinds = {leaf.dtype for leaf in module.parameters() if leaf.requires_grad}
    if not kinds <= set(WIDE_ENOUGH):
        return "the parameters are of half precision, in which a fraction of an update is lost"
    return None


def _kept(value: Any) -> Any:
    """Return a batch in containers of its own, so that a step that empties them leaves it whole; tensors are shared."""
    if isinstance(value, dict) and type(value) is dict:
        return {key: _kept(one) for key, one in value.items()}
    if type(value) is list:
        return [_kept(one) for one in value]
    if type(value) is tuple:
        return tuple(_kept(one) for one in value)
    return value
