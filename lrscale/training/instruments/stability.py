"""The instrument that watches for loss spikes: the norm of the gradient at every step, and what it says at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from lrscale.laws.stability import find_spikes
from lrscale.training.instruments.base import INSTRUMENTS, AbstractInstrument
from lrscale.training.instruments.layout_refusal import holds_whole_gradient
from lrscale.training.instruments.loss_scale import loss_scale
from lrscale.training.instruments.micro_gradients import norms_of

HELD_STEPS = 256
"""Steps whose norms lie on the device one by one before they are put into one tensor."""


@final
@INSTRUMENTS.register("stability")
class StabilityInstrument(AbstractInstrument):
    """Reads the norm of the whole gradient at every step, before clipping, and finds the spikes of the loss.

    The gradient of a step is the same on all ranks by then, and so is the loss that it is judged with, so all ranks
    come to the same spikes without an exchange. The norm stays on the device until the fit has ended.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._steps: list[Tensor | None] = []
        self._done: list[Tensor] = []
        self._global_step = 0
        self._whole = True
        self._losses: Sequence[float | None] = ()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin; what an earlier fit left is forgotten."""
        del pl_module
        self._parts, self._steps, self._done = [], [], []
        self._global_step = int(trainer.global_step)
        self._whole = holds_whole_gradient(trainer.strategy)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Take the norm of the gradient, unscaled by now and not clipped yet."""
        del pl_module
        if not self._whole:
            return
        gradients = [leaf.grad for group in optimizer.param_groups for leaf in group["params"] if leaf.grad is not None]
        if not gradients:
            return
        norm = torch.linalg.vector_norm(norms_of(gradients).detach())
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            # Such an optimizer unscales inside of its step.
            norm = norm / loss_scale(trainer)
        self._parts.append(norm)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Complete the step; where a module steps several optimizers on a batch their gradients are one."""
        del pl_module, outputs, batch, batch_idx
        if trainer.accumulate_grad_batches > 1:
            # A step of several forwards is done when the Trainer has counted it, as the trial counts its losses.
            step = int(trainer.global_step)
            if step == self._global_step:
                return
            self._global_step = step
        parts, self._parts = self._parts, []
        if len(parts) > 1:
            parts = [torch.linalg.vector_norm(torch.stack(parts))]
        self._steps.append(parts[0] if parts else None)
        if len(self._steps) >= HELD_STEPS:
            self._gather()

    @override
    def take_losses(self, losses: Sequence[float | None]) -> None:
        self._losses = losses

    @override
    def measurement(self) -> dict[str, Any]:
        """Return `lrscale.laws.stability.Spikes` as JSON values, and the median and the largest gradient norm."""
        self._gather()
        norms = torch.cat(self._done).tolist() if self._done else []
        # Steps that were never exchanged have no loss; a step that ended the trial may have no norm.
        norms = norms[: len(self._losses)]
        norms += [math.nan] * (len(self._losses) - len(norms))
        finite = sorted(norm for norm in norms if math.isfinite(norm))
        return {
            **find_spikes(self._losses, norms).to_dict(),
            "gradient_norm_median": finite[len(finite) // 2] if finite else None,
            "gradient_norm_largest": finite[-1] if finite else None,
        }

    def _gather(self) -> None:
        if not self._steps:
            return
        device = next((norm.device for norm in self._steps if norm is not None), torch.device("cpu"))
        gap = torch.full((), math.nan, device=device)
        self._done.append(torch.stack([gap if norm is None else norm.float() for norm in self._steps]))
        self._steps = []
