"""Why layouts differ, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from lrscale.study.layout_check.probe import layout_words
from lrscale.study.layout_check.texts import listed, share, some
from lrscale.study.words import number
from lrscale.units import Layout

CauseKind = Literal[
    "identical_batches",
    "unused_parameters",
    "crash",
    "sum_reduction",
    "rank_scaling",
    "scaling",
    "batch_statistics",
    "unequal_examples",
    "unequal_items",
    "across_examples",
    "other_examples",
    "unsynchronised",
    "loss_alone",
    "randomness",
    "unknown",
]

FATAL: tuple[CauseKind, ...] = ("identical_batches", "unused_parameters", "crash", "unsynchronised")
"""With these a run on several devices is not the run that it is taken for."""

WHOLE = 0.01
"""A ratio this near to a whole number is that number: rounding in bfloat16 moves ratios by less."""
SHARE = 0.02
"""Weights this near to the shares of examples are these shares."""

KEEP = "keep the per-device batch size and the accumulation of the calibration in the real job"

REMEDIES: dict[CauseKind, str | None] = {
    "identical_batches": (
        "give every rank its own examples: return a DataLoader, which is then divided, or have the loader skip by "
        "torch.distributed.get_rank()"
    ),
    "unused_parameters": (
        "set task.trainer.strategy: ddp_find_unused_parameters_true, or leave out the parameters that no loss depends "
        "on"
    ),
    "crash": None,
    "sum_reduction": f"average the loss over the examples of a batch (reduction='mean'), or {KEEP}",
    "rank_scaling": "leave the number of ranks out of the loss: DDP averages the gradients of the ranks",
    "scaling": f"look for what scales the loss with the size of a batch or the number of forwards, or {KEEP}",
    "batch_statistics": (
        "for several devices on GPUs set task.trainer.sync_batchnorm: true (SyncBatchNorm; it does not help "
        f"accumulation), or use GroupNorm, which does not depend on the layout, or {KEEP}"
    ),
    "unequal_examples": "form batches of equal size, for example with drop_last",
    "unequal_items": (
        "divide the sum of a micro-batch's losses by the mean number of valid items of all micro-batches of the step, "
        f"or {KEEP}"
    ),
    "across_examples": (
        f"{KEEP}; gathering the examples of all ranks for the loss helps several devices and not accumulation"
    ),
    "other_examples": (
        "fix the examples and their order by the seed alone and divide them among the ranks, or use a DataLoader over "
        "a data set that does not depend on the batch size"
    ),
    "unsynchronised": (
        "have every parameter's gradient go through DDP: no backward outside of it, and no parameter added or thawed "
        "after it wrapped the module"
    ),
    "loss_alone": "compare trials of one layout only, or return the loss that is differentiated",
    "randomness": None,
    "unknown": KEEP,
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One reason for which layouts differ."""

    kind: CauseKind
    sentence: str
    """What it is and by what number it shows; it goes on from a colon, without a full stop."""
    remedy: str | None = None

    @classmethod
    def of(cls, kind: CauseKind, sentence: str) -> Cause:
        """Return a cause with the remedy of its kind."""
        return cls(kind=kind, sentence=sentence, remedy=REMEDIES[kind])


def identical_batches(layout: Layout) -> Cause:
    """Return the cause where every rank reads what the others read."""
    size, ranks = layout.global_batch_size // layout.world_size, layout.world_size
    return Cause.of(
        "identical_batches",
        f"with {ranks} devices every rank reads the same batches, so that the global batch is {size} and not "
        f"{layout.global_batch_size}",
    )


def scaled(scale: float, reference: Layout, layout: Layout) -> Cause:
    """Return the cause of a reference's gradient that is `scale` times that of a layout.

    Examples
    --------
    >>> whole, halves = Layout(per_device_batch_size=8), Layout(per_device_batch_size=4, accumulate=2)
    >>> scaled(2.0, whole, halves).kind, scaled(1.3, whole, halves).kind
    ('sum_reduction', 'scaling')
    """
    parts = layout.accumulate * layout.world_size / (reference.accumulate * reference.world_size)
    if abs(scale / parts - 1) <= WHOLE:
        return summed(scale, reference, layout)
    ranks = layout.world_size / reference.world_size
    if ranks != 1 and min(abs(scale / ranks - 1), abs(scale * ranks - 1)) <= WHOLE:
        return Cause.of(
            "rank_scaling",
            f"the loss is scaled by the number of ranks (the gradient of {layout_words(layout)} is "
            f"{number(1 / scale, 4)} times that of {layout_words(reference)})",
        )
    return Cause.of(
        "scaling",
        f"the gradient of {layout_words(layout)} is {number(1 / scale, 4)} times that of {layout_words(reference)}",
    )


def summed(scale: float, reference: Layout, layout: Layout) -> Cause:
    """Return the cause where loss and gradient grow with the examples of a forward."""
    return Cause.of(
        "sum_reduction",
        "the loss is summed over the batch and not averaged (the gradient of "
        f"{layout_words(reference)} is {number(scale, 4)} times that of {layout_words(layout)})",
    )


def reweighted(weights: Sequence[float], examples: Sequence[int | None]) -> Cause:
    """Return the cause where micro-batches weigh otherwise in one batch than as parts of it."""
    told, even = listed([number(one, 3) for one in weights]), number(1 / len(weights), 3)
    known = [one for one in examples if one is not None]
    if len(known) == len(weights) and len(set(known)) > 1:
        shares = np.array(known) / sum(known)
        if float(np.abs(np.array(weights) - shares).max()) <= SHARE:
            return Cause.of(
                "unequal_examples",
                f"micro-batches of {listed(known)} examples weigh {even} each when they are averaged, and {told} in "
                "one batch",
            )
    return Cause.of(
        "unequal_items",
        "the loss is a mean over items whose number varies, such as valid tokens: micro-batches that weigh "
        f"{even} each when they are averaged weigh {told} in one batch",
    )


def batch_statistics(layers: Sequence[tuple[str, str]]) -> Cause:
    """Return the cause where layers normalise by the examples of one forward."""
    told = some([f"{name} ({kind})" for name, kind in layers])
    return Cause.of(
        "batch_statistics", f"batch normalisation takes its statistics over the examples of one forward, in {told}"
    )


def randomness(noise: float | None) -> Cause:
    """Return the cause where ranks and forwards draw random numbers of their own."""
    told = "" if noise is None else f" (another seed moves the gradient by {share(noise)})"
    return Cause.of("randomness", f"every rank and every forward draws random numbers of its own{told}")
