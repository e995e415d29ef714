"""The instrument that records the gradients of a trial's first steps, so that layouts can be compared."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from lrscale.errors import LrscaleError
from lrscale.training.batches import hash_batch, hash_rows, row_shapes
from lrscale.training.instruments.base import INSTRUMENTS, AbstractInstrument
from lrscale.training.instruments.gradient_sketch import GradientSketcher, folded
from lrscale.training.instruments.loss_scale import gradient_scale, loss_scale
from lrscale.training.instruments.still import PARTS, batch_norms, still
from lrscale.training.monitor import loss_of
from lrscale.training.seeding import seed_rank

MOST_NUMBERS = 4096
"""Numbers kept of the sketches of one gradient; a module of many tensors has fewer of each."""
MOST_WIDTH = 16
"""Numbers kept of the gradient of one parameter tensor."""
DIGITS = 10
"""Significant digits kept: more than single precision has. In double precision all are kept."""
KEPT_IN_HALF = 4.0
"""Measured: 0.027 between layouts of a small transformer in bfloat16 throughout, 0.002 in mixed precision."""
_RESEED = 20260102
"""Another course of random numbers than that of any trial's seed."""


@final
@dataclass(slots=True)
class _Forward:
    """One forward on this rank."""

    hashed: int
    shapes: str
    rows: int | None
    examples: int | None
    random_before: tuple[Any, ...]
    drew: bool = False
    loss: Tensor | float | None = None
    gradient: Tensor | None = None
    """Sketch of the gradient of this rank's own backward, whole module."""
    factor: float = 1.0
    """What `gradient` is multiplied by, for the gradient of the micro-batch's own loss."""


@final
@dataclass(slots=True)
class _Step:
    """One optimizer step on this rank."""

    forwards: list[_Forward]
    sketches: dict[str, Tensor]
    """By parameter, after the reduction over ranks and before clipping."""
    norms: dict[str, Tensor]


@final
@dataclass(slots=True)
class _Fit:
    world_size: int = 1
    rank: int = 0
    automatic: bool = True
    roundoff: float = 2.0**-24
    names: dict[int, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    """Parameters that got a gradient in some backward of this rank."""
    batch_norm: dict[str, str] = field(default_factory=dict)
    listening: bool = False
    """Whether a backward of the step itself is under way: other instruments ask for gradients too."""
    forwards: list[_Forward] = field(default_factory=list)
    sketches: dict[str, Tensor] = field(default_factory=dict)
    norms: dict[str, Tensor] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)


@final
@INSTRUMENTS.register("layout_probe")
class LayoutProbe(AbstractInstrument):
    """Records of each step what another layout of the same global batch should agree in.

    Losses and batch hashes of every forward on every rank; the gradient of every forward before the ranks put theirs
    together; the gradient of the step after that and before clipping, by parameter. Gradients are kept as norms and
    sketches. Works for automatic and manual optimization; a module that steps several optimizers a batch, or one of
    them several times, has the gradients of all of these steps recorded.

    Parameters
    ----------
    still : sequence of {"dropout", "batch_norm"}, optional
        Parts of the module that are taken out, to see whether the layouts agree without them. Default: none.
    reseed : int, optional
        Any value but 0 gives every rank another course of random numbers. Default 0.

    Raises
    ------
    LrscaleError
        For a part that cannot be taken out.
    """

    def __init__(self, *, still: Sequence[str] = (), reseed: int = 0) -> None:
        unknown = [part for part in still if part not in PARTS]
        if unknown:
            raise LrscaleError(f"layout_probe cannot still {unknown[0]}", hint=f"use {' or '.join(PARTS)}")
        self._still = tuple(still)
        self._reseed = reseed
        self._fit = _Fit()
        self._sketcher = GradientSketcher()
        self._hooks: list[Any] = []
        self._stilled = ExitStack()
        self._measured: dict[str, Any] = {"steps": []}

    def measurement(self) -> dict[str, Any]:
        """Return the steps of all ranks; none when an exception ended the fit before they were exchanged."""
        return self._measured

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Listen to the gradients of every parameter; they arrive before DDP reduces them."""
        self._take_off()
        fit = self._fit = _Fit(
            world_size=int(trainer.world_size),
            rank=int(trainer.global_rank),
            automatic=bool(pl_module.automatic_optimization),
            roundoff=unit_roundoff(trainer, pl_module),
        )
        for name, parameter in pl_module.named_parameters():
            if not parameter.requires_grad:
                continue
            fit.names[id(parameter)], fit.sizes[name] = name, parameter.numel()
            self._hooks.append(parameter.register_hook(self._listener(name)))
        if self._reseed:
            seed_rank(_RESEED + self._reseed, fit.rank)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Look at the batch, and note where the random numbers stand."""
        del trainer, batch_idx
        if not self._fit.batch_norm:
            self._fit.batch_norm = {name: type(layer).__name__ for name, layer in batch_norms(pl_module).items()}
        self._stilled.enter_context(still(pl_module, self._still))
        examples, rows = hash_rows(batch)
        self._fit.forwards.append(
            _Forward(
                hash_batch(batch), row_shapes(batch), rows, examples, random_before=_random_state(pl_module.device)
            )
        )

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """See whether the forward drew random numbers, and learn how its gradient will be scaled."""
        del loss
        forward = self._fit.forwards[-1]
        forward.drew = forward.drew or not _equal(forward.random_before, _random_state(pl_module.device))
        accumulate = int(trainer.accumulate_grad_batches) if self._fit.automatic else 1
        forward.factor = accumulate / float(loss_scale(trainer))
        self._fit.listening = True

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Stop listening."""
        del trainer, pl_module
        self._fit.listening = False

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Take the gradient that the optimizer is about to use, unscaled by now and not clipped yet."""
        del pl_module
        fit = self._fit
        if not fit.forwards:
            return
        factor = 1.0 / float(gradient_scale(trainer, optimizer))
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = fit.names.get(id(parameter))
                if name is None or parameter.grad is None:
                    continue
                # A module may step its optimizers several times a batch; each time counts.
                turn = sum(known == name or known.startswith(f"{name} (step ") for known in fit.sketches)
                label = f"{name} (step {turn + 1})" if turn else name
                fit.sketches[label] = self._sketcher.sketch(name, parameter.grad) * factor
                fit.norms[label] = torch.linalg.vector_norm(_wide(parameter.grad)) * factor
                fit.sizes.setdefault(label, parameter.numel())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the loss, and close the step if the optimizer has stepped."""
        del batch, batch_idx
        self._stilled.close()
        fit = self._fit
        forward = fit.forwards[-1]
        forward.drew = forward.drew or not _equal(forward.random_before, _random_state(pl_module.device))
        loss = loss_of(outputs)
        if loss is not None:
            # Lightning hands back the loss divided by the accumulation.
            forward.loss = loss.detach() * (int(trainer.accumulate_grad_batches) if fit.automatic else 1)
        if fit.sketches:
            fit.steps.append(_Step(fit.forwards, fit.sketches, fit.norms))
            fit.forwards, fit.sketches, fit.norms = [], {}, {}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Put the ranks' records together."""
        del trainer
        fit, mine = self._fit, self._own_record()
        ranks: list[Any] = [mine]
        if fit.world_size > 1:
            ranks = [None] * fit.world_size
            torch.distributed.all_gather_object(ranks, mine)
        unused = [name for name in fit.names.values() if not any(name in one["seen"] for one in ranks)]
        self._measured = {
            "precision": str(getattr(pl_module.trainer, "precision", "")),
            "roundoff": fit.roundoff,
            "automatic": fit.automatic,
            "names": mine["names"],
            "sizes": mine["sizes"],
            "unused": unused,
            "batch_norm": [[name, kind] for name, kind in fit.batch_norm.items()],
            "steps": [_merged(steps) for steps in zip(*(one["steps"] for one in ranks), strict=False)],
        }
        self._take_off()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the module as it was; the other ranks cannot be asked any more."""
        del trainer, pl_module, exception
        self._take_off()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave the module as it was, whatever ended the fit."""
        del trainer, pl_module, stage
        self._take_off()

    def _listener(self, name: str) -> Any:
        def listen(gradient: Tensor) -> None:
            fit = self._fit
            if not fit.listening:
                return
            fit.seen.add(name)
            # With several optimizers a backward is of one of them; whose micro-gradient it is cannot be told.
            if not fit.automatic:
                return
            forward, sketch = fit.forwards[-1], self._sketcher.sketch(name, gradient)
            forward.gradient = sketch if forward.gradient is None else forward.gradient + sketch

        return listen

    def _take_off(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._stilled.close()

    def _own_record(self) -> dict[str, Any]:
        fit = self._fit
        names = list(dict.fromkeys(name for step in fit.steps for name in step.norms))
        width, digits = MOST_WIDTH, DIGITS if fit.roundoff >= 2.0**-24 else 17
        while width > 1 and width * len(names) > MOST_NUMBERS:
            width //= 2
        return {
            "names": names,
            "sizes": [fit.sizes[name] for name in names],
            "seen": sorted(fit.seen),
            "steps": [_plain_step(step, names, width, digits) for step in fit.steps],
        }


def unit_roundoff(trainer: Any, module: Any) -> float:
    """Return the largest relative rounding error of the arithmetic that a fit trains in.

    That of the format (IEEE 754; bfloat16: 2**-8). Where parameters themselves are in half precision it is four times
    as large, because gradients are then kept and summed in it.
    """
    precision = str(getattr(trainer, "precision", ""))
    of_kind = {
        torch.float64: 2.0**-53,
        torch.float32: 2.0**-24,
        torch.float16: KEPT_IN_HALF * 2.0**-11,
        torch.bfloat16: KEPT_IN_HALF * 2.0**-8,
    }
    found = [of_kind.get(one.dtype, 2.0**-8) for one in module.parameters() if one.dtype.is_floating_point]
    if precision.startswith("bf16"):
        found.append(2.0**-8)
    elif precision.startswith("16"):
        found.append(2.0**-11)
    elif "transformer-engine" in precision:
        found.append(2.0**-4)
    roundoff = max(found, default=2.0**-24)
    if roundoff == 2.0**-24 and module.device.type == "cuda":
        # TensorFloat-32 has the mantissa of half precision; convolutions use it unless told otherwise.
        convolves = any(isinstance(layer, torch.nn.modules.conv._ConvNd) for layer in module.modules())
        tf32 = torch.get_float32_matmul_precision() != "highest"
        if tf32 or (convolves and torch.backends.cudnn.allow_tf32):
            return 2.0**-11
    return roundoff


def _plain_step(step: _Step, names: Sequence[str], width: int, digits: int) -> dict[str, Any]:
    zero = torch.zeros(width)
    sketches = [folded(step.sketches[name], width) if name in step.sketches else zero for name in names]

    def numbers(values: Tensor) -> list[float | None]:
        return [_rounded(value, digits) for value in values.tolist()]

    return {
        "losses": [None if one.loss is None else _rounded(float(one.loss), digits) for one in step.forwards],
        "examples": [one.examples for one in step.forwards],
        "hashes": [f"{one.hashed:016x}" for one in step.forwards],
        "rows": [one.rows for one in step.forwards],
        "shapes": [one.shapes for one in step.forwards],
        "drew": any(one.drew for one in step.forwards),
        "micro": [None if one.gradient is None else numbers(one.gradient * one.factor) for one in step.forwards],
        "whole": numbers(torch.stack(list(step.sketches.values())).sum(0)),
        "norms": [_rounded(float(step.norms[name]), digits) if name in step.norms else 0.0 for name in names],
        "sketches": [numbers(sketch) for sketch in sketches],
    }


def _merged(ranks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one step of all ranks: what is each rank's own as a list by rank, what should be equal once."""
    own = {key: [one[key] for one in ranks] for key in ("losses", "examples", "hashes", "rows", "shapes", "micro")}
    # None, which stands for what is not finite, becomes NaN.
    gradients = [np.array([one for row in rank["sketches"] for one in row], dtype=np.float64) for rank in ranks]
    norm = float(np.linalg.norm(gradients[0]))
    apart = [
        float(np.linalg.norm(one - gradients[0])) if one.shape == gradients[0].shape else norm for one in gradients
    ]
    spread = max(apart) / norm if norm > 0 else 0.0
    return {
        **own,
        "drew": any(one["drew"] for one in ranks),
        "spread": spread if math.isfinite(spread) else None,
        **{key: ranks[0][key] for key in ("whole", "norms", "sketches")},
    }


def _rounded(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _wide(gradient: Tensor) -> Tensor:
    # The norm of a half-precision tensor comes back in half precision, where 65504 is the end.
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return dense.float() if dense.element_size() < 4 else dense


def _random_state(device: torch.device) -> tuple[Any, ...]:
    own = np.random.get_state(legacy=False)["state"]
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return random.getstate(), (own["key"].tobytes(), own["pos"]), torch.get_rng_state(), cuda


def _equal(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    tensors = all(one is other or torch.equal(one, other) for one, other in zip(before[2:], after[2:], strict=True))
    return before[:2] == after[:2] and tensors
