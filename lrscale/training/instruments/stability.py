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
from lrscale.training.instruments.gradient_norms import GradientNorms
from lrscale.training.instruments.gradient_table import HELD
from lrscale.training.instruments.layout_refusal import holds_whole_gradient
from lrscale.training.instruments.loss_scale import gradient_scale
from lrscale.training.stop import TrialStopped


@final
@INSTRUMENTS.register("stability")
class StabilityInstrument(AbstractInstrument):
    """Reads the norm of the whole gradient at every step, before clipping, and finds the spikes of the loss.

    The gradient of a step is the same on all ranks by then, so each rank reads a share of it, and when the fit has
    ended the ranks add up what they read. The loss that a step is judged with is the same on all of them too, so they
    come to the same spikes. The norms stay on the device until then.
    """

    def __init__(self) -> None:
        self.norms: GradientNorms = GradientNorms()
        self._first = 0
        self._automatic = True
        self._whole = True
        self._world_size = 1
        self._device = torch.device("cpu")
        self._held: list[tuple[int, Sequence[Tensor], float | Tensor]] = []
        """(place of the step, norms of its gradients, what they are to be divided by)."""
        self._count = 0
        self._done: list[tuple[list[int], Tensor]] = []
        """(places, squared norms) of many steps."""
        self._squares: dict[int, float] = {}
        """Squared norm of the whole gradient by the place of the step."""
        self._losses: Sequence[float | None] = ()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin; what an earlier fit left is forgotten."""
        self._held, self._count, self._done, self._squares = [], 0, [], {}
        self._automatic = bool(pl_module.automatic_optimization)
        self._whole = holds_whole_gradient(trainer.strategy)
        self._world_size = int(trainer.world_size)
        self._device = trainer.strategy.root_device
        self.norms.forget()
        self.norms.every_step = self._whole
        # Lightning counts batches from their start on, and steps from their end on.
        self._first = self._place(trainer, int(trainer.global_step)) + (not self._automatic)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Expect that parameters were added or replaced."""
        del trainer, pl_module
        self.norms.forget()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Take the norms of the gradients, unscaled by now and not clipped yet."""
        del pl_module
        if not self._whole:
            return
        step = int(trainer.global_step)
        read = self.norms.of(trainer, optimizer, step, self)
        if read is None:
            return
        scale = gradient_scale(trainer, optimizer)
        self._held.append((self._place(trainer, step) - self._first, read.plain, scale))
        self._count += 1 + len(read.plain)
        if self._count >= HELD:
            self._gather()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Add up what the ranks read."""
        del trainer, pl_module
        self._exchange()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Add it up too where all ranks end here; no other rank is asked otherwise."""
        del trainer, pl_module
        if self._world_size == 1 or isinstance(exception, TrialStopped):
            self._exchange()

    @override
    def take_losses(self, losses: Sequence[float | None]) -> None:
        self._losses = losses

    @override
    def measurement(self) -> dict[str, Any]:
        """Return `lrscale.laws.stability.Spikes` as JSON values, and the median and the largest gradient norm."""
        # Steps that were never exchanged have no loss.
        norms = [
            math.sqrt(self._squares[place]) if place in self._squares else math.nan
            for place in range(len(self._losses))
        ]
        finite = sorted(norm for norm in norms if math.isfinite(norm))
        return {
            **find_spikes(self._losses, norms).to_dict(),
            "gradient_norm_median": finite[len(finite) // 2] if finite else None,
            "gradient_norm_largest": finite[-1] if finite else None,
        }

    def _place(self, trainer: Any, step: int) -> int:
        # A module that steps its optimizers itself may step several on a batch, and a batch is a step of the trial.
        return step if self._automatic else int(trainer.fit_loop.epoch_loop.total_batch_idx)

    def _gather(self) -> None:
        held, self._held, self._count = self._held, [], 0
        if not held:
            return
        places, norms, scales = zip(*held, strict=True)
        sizes = [len(parts) for parts in norms]
        if not any(sizes):
            sums = torch.zeros(len(held), device=self._device)
        else:
            squares = torch.stack([norm for parts in norms for norm in parts]).square()
            if len(set(sizes)) == 1:
                sums = squares.view(len(sizes), -1).sum(dim=1)
            else:
                sums = torch.stack([part.sum() for part in torch.split(squares, sizes)])
        if any(isinstance(one, Tensor) for one in scales):
            sums = sums / torch.stack([torch.as_tensor(one, device=sums.device).reshape(()) for one in scales]).square()
        self._done.append((list(places), sums))

    def _exchange(self) -> None:
        self._gather()
        done, self._done = self._done, []
        size = 1 + max((max(places) for places, _ in done), default=-1)
        if self._world_size > 1 and self._whole:
            largest = torch.tensor(size, device=self._device)
            torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
            size = int(largest)
        if not size:
            return
        # Squares, and whether there is one. Where a module steps several optimizers on a batch their gradients are one.
        whole = torch.zeros(2, size, dtype=torch.float32 if self._device.type == "mps" else torch.float64)
        for places, sums in done:
            at = torch.tensor(places)
            whole[0].index_add_(0, at, sums.to("cpu", whole.dtype))
            whole[1, at] = 1
        if self._world_size > 1 and self._whole:
            shared = whole.to(self._device)
            torch.distributed.all_reduce(shared)
            whole = shared.cpu()
        squares, present = whole.tolist()
        self._squares.update((place, squares[place]) for place in range(size) if present[place])
