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

HELD = 4096
"""Norms of single tensors that lie on the device one by one before those of each step are put together."""


@final
@INSTRUMENTS.register("stability")
class StabilityInstrument(AbstractInstrument):
    """Reads the norm of the whole gradient at every step, before clipping, and finds the spikes of the loss.

    The gradient of a step is the same on all ranks by then, and so is the loss that it is judged with, so all ranks
    come to the same spikes without an exchange. The norms stay on the device until the fit has ended.
    """

    def __init__(self) -> None:
        self._first = 0
        self._automatic = True
        self._whole = True
        self._plain = False
        """Whether the gradients are dense and of single precision."""
        self._looked_at = 0
        """Number of gradients when that was looked at."""
        self._held: list[tuple[int, Sequence[Tensor]]] = []
        """(place of the step, norms of its gradients)."""
        self._count = 0
        self._done: list[tuple[list[int], Tensor]] = []
        """(places, squared norms) of many steps."""
        self._losses: Sequence[float | None] = ()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin; what an earlier fit left is forgotten."""
        self._held, self._count, self._done, self._looked_at = [], 0, [], 0
        self._automatic = bool(pl_module.automatic_optimization)
        self._whole = holds_whole_gradient(trainer.strategy)
        # Lightning counts batches from their start on, and steps from their end on.
        self._first = self._place(trainer) + (not self._automatic)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Take the norms of the gradients, unscaled by now and not clipped yet."""
        del pl_module
        if not self._whole:
            return
        gradients = [leaf.grad for group in optimizer.param_groups for leaf in group["params"] if leaf.grad is not None]
        if not gradients:
            return
        norms = self._norms(gradients)
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            # Such an optimizer unscales inside of its step.
            scale = loss_scale(trainer)
            norms = [norm / scale for norm in norms]
        self._held.append((self._place(trainer) - self._first, norms))
        self._count += len(norms)
        if self._count >= HELD:
            self._gather()

    @override
    def take_losses(self, losses: Sequence[float | None]) -> None:
        self._losses = losses

    @override
    def measurement(self) -> dict[str, Any]:
        """Return `lrscale.laws.stability.Spikes` as JSON values, and the median and the largest gradient norm."""
        self._gather()
        # Where a module steps several optimizers on a batch their gradients are one.
        squares: dict[int, float] = {}
        for places, values in self._done:
            for place, square in zip(places, values.tolist(), strict=True):
                squares[place] = squares.get(place, 0.0) + square
        # Steps that were never exchanged have no loss.
        norms = [math.sqrt(squares[place]) if place in squares else math.nan for place in range(len(self._losses))]
        finite = sorted(norm for norm in norms if math.isfinite(norm))
        return {
            **find_spikes(self._losses, norms).to_dict(),
            "gradient_norm_median": finite[len(finite) // 2] if finite else None,
            "gradient_norm_largest": finite[-1] if finite else None,
        }

    def _place(self, trainer: Any) -> int:
        # A module that steps its optimizers itself may step several on a batch, and a batch is a step of the trial.
        return int(trainer.global_step if self._automatic else trainer.fit_loop.epoch_loop.total_batch_idx)

    def _norms(self, gradients: list[Tensor]) -> Sequence[Tensor]:
        if len(gradients) != self._looked_at:
            self._looked_at = len(gradients)
            self._plain = all(one.dtype is torch.float32 and not one.is_sparse for one in gradients)
        if gradients[0].requires_grad:
            gradients = [one.detach() for one in gradients]
        return torch._foreach_norm(gradients) if self._plain else norms_of(gradients).unbind()

    def _gather(self) -> None:
        if not self._held:
            return
        held, self._held, self._count = self._held, [], 0
        squares = torch.stack([norm for _, norms in held for norm in norms]).square()
        sizes = [len(norms) for _, norms in held]
        if len(set(sizes)) == 1:
            sums = squares.view(len(sizes), -1).sum(dim=1)
        else:
            sums = torch.stack([part.sum() for part in torch.split(squares, sizes)])
        self._done.append(([place for place, _ in held], sums))
