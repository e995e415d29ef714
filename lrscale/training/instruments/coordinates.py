"""The instrument that measures how large the output of each part of a module is over the first steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.training.instruments.base import INSTRUMENTS, AbstractInstrument

MOST_PARTS = 400
"""Parts of a module that are followed: what is left out beyond is said."""


@final
@INSTRUMENTS.register("coordinates")
class CoordinatesInstrument(AbstractInstrument):
    """Mean absolute output of every part of the module in each of the first training steps.

    The coordinate check of the maximal update parametrisation compares these sizes between widths: they must not drift
    with the width while the module trains (Yang et al. 2022, arXiv:2203.03466, appendix D). Forward hooks read them;
    nothing of the module is rewritten, and the hooks are gone after the last step that is measured. A part that is
    called several times in a step has the mean of its calls. The output of a step is that of the weights before its
    update, so that the first is that of the initial ones.

    Parameters
    ----------
    steps : int, optional
        Steps that are measured, at least 1. Default 8.
    """

    def __init__(self, *, steps: int = 8) -> None:
        super().__init__()
        if steps < 1:
            raise LrscaleError(f"coordinates: steps {steps} is below 1", hint="measure the first step at least")
        self._steps = steps
        self._parts: list[tuple[str, nn.Module]] = []
        self._left_out = 0
        self._handles: list[Any] = []
        self._sums: Tensor | None = None
        self._calls: Tensor | None = None
        self._place = -1
        """Step that is under way, from 0; -1 before the first."""
        self._global_step: int | None = None
        self._listening = False
        self._sizes: list[list[float | None]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Put a hook on every part."""
        del trainer
        named = [(name, part) for name, part in pl_module.named_modules() if name]
        self._parts, self._left_out = named[:MOST_PARTS], max(0, len(named) - MOST_PARTS)
        shape = (self._steps, len(self._parts))
        self._sums = torch.zeros(shape, device=pl_module.device)
        self._calls = torch.zeros(shape, device=pl_module.device)
        self._handles = [part.register_forward_hook(self._reader(place)) for place, (_, part) in enumerate(self._parts)]

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count the steps: the forwards of one accumulate before the next begins."""
        del pl_module, batch, batch_idx
        if trainer.global_step != self._global_step:
            self._global_step = trainer.global_step
            self._place += 1
        if self._place >= self._steps:
            self._finish(trainer)
            self.rest("on_train_batch_start", "on_train_batch_end")
            return
        self._listening = True

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop listening: what runs between batches is no training."""
        del trainer, pl_module, outputs, batch, batch_idx
        self._listening = False

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Put together what a training shorter than the steps has left."""
        del pl_module
        self._finish(trainer)

    @override
    def measurement(self) -> dict[str, Any]:
        seen = [place for place in range(len(self._parts)) if any(row[place] is not None for row in self._sizes)]
        return {
            "steps": len(self._sizes),
            "parts": [
                {
                    "name": self._parts[place][0],
                    "type": type(self._parts[place][1]).__name__,
                    "weight": _weight_shape(self._parts[place][1]),
                    "sizes": [row[place] for row in self._sizes],
                }
                for place in seen
            ],
        }

    @override
    def remarks(self) -> list[str]:
        if not self._left_out:
            return []
        return [f"coordinates: the module has {self._left_out} parts more than the {MOST_PARTS} that were followed"]

    def _reader(self, place: int) -> Any:
        def read(part: nn.Module, inputs: Any, output: Any) -> None:
            del part, inputs
            value = _first_tensor(output) if self._listening else None
            # One number says nothing of the width, and a loss or a metric is no activation.
            if value is None or value.dim() < 2 or not value.is_floating_point() or value.numel() == 0:
                return
            assert self._sums is not None and self._calls is not None
            with torch.no_grad():
                self._sums[self._place, place] += value.detach().abs().float().mean().to(self._sums.device)
                self._calls[self._place, place] += 1

        return read

    def _finish(self, trainer: Any) -> None:
        if self._sums is None or self._calls is None:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        whole = torch.stack([self._sums, self._calls])
        if int(trainer.world_size) > 1:
            torch.distributed.all_reduce(whole)
        sums, calls = whole.cpu().tolist()
        self._sums = self._calls = None
        count = min(self._place + 1, self._steps)
        self._sizes = [
            [_mean(total, times) for total, times in zip(sums[step], calls[step], strict=True)] for step in range(count)
        ]


def _mean(total: float, times: float) -> float | None:
    mean = total / times if times else None
    return mean if mean is not None and mean < float("inf") else None


def _weight_shape(part: nn.Module) -> list[int] | None:
    """Return the shape of a part's own weight matrix, or None where it has none."""
    weight = getattr(part, "weight", None)
    return [int(size) for size in weight.shape] if isinstance(weight, Tensor) and weight.dim() >= 1 else None


def _first_tensor(output: Any) -> Tensor | None:
    """Return the first tensor of an output: of an attention it is the values, and not the weights."""
    if isinstance(output, Tensor):
        return output
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return next((found for part in parts if (found := _first_tensor(part)) is not None), None)
