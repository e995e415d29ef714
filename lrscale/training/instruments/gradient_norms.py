"""Reads the norms of the gradient before an optimizer steps, once for all instruments of a trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from lrscale.training.instruments.micro_gradients import Norms, TensorNorms
from lrscale.training.instruments.parameters import balanced_share


@final
@dataclass(slots=True)
class _Looked:
    """What is known of an optimizer's parameters, until `GradientNorms.forget`."""

    optimizer: Any
    groups: int
    """Number of its parameter groups, which grows when some are added."""
    leaves: list[Tensor]
    share: tuple[int, ...]
    """Places in `leaves` of those whose gradients this rank reads."""
    mine: list[Tensor]
    norm: TensorNorms
    """Of their gradients."""


@final
class GradientNorms:
    """Reads the norm of each parameter's gradient: unscaled where the Trainer unscales, and before clipping.

    The gradient is equal on all ranks by then, so each rank reads a share of the parameters; the squares of all ranks
    add up. The instruments of a trial hold one such object, and the first that asks in a step makes the reading.
    """

    def __init__(self) -> None:
        self.every_step = False
        """Whether one of the instruments asks at every step, so that the others have its readings for nothing."""
        self._looked: dict[int, _Looked] = {}
        self._key: tuple[int, int] | None = None
        self._askers: list[Any] = []
        self._reading: Norms | None = None

    def forget(self) -> None:
        """Look at the optimizers' parameters anew before the next reading."""
        self._looked, self._key, self._reading, self._askers = {}, None, None, []

    def leaves(self, trainer: Any, optimizer: Any) -> list[Tensor]:
        """Return the distinct parameters of an optimizer, in the order that the places of `of` refer to."""
        return self._look(trainer, optimizer).leaves

    def of(self, trainer: Any, optimizer: Any, step: int, asker: Any) -> Norms | None:
        """Return the norms of this rank's share of the gradient, which may be none; None where there is no gradient.

        Parameters
        ----------
        trainer : Trainer
            Which trains.
        optimizer : Optimizer
            Which is about to step.
        step : int
            The Trainer's ``global_step``.
        asker : object
            The instrument. When it asks twice in one step the gradient is another one, as with a closure that the
            optimizer calls several times.
        """
        key = (step, id(optimizer))
        if key == self._key and not any(one is asker for one in self._askers):
            self._askers.append(asker)
            return self._reading
        self._key, self._askers = key, [asker]
        self._reading = self._read(self._look(trainer, optimizer))
        return self._reading

    def _look(self, trainer: Any, optimizer: Any) -> _Looked:
        known = self._looked.get(id(optimizer))
        if known is not None and known.groups == len(optimizer.param_groups):
            return known
        distinct = {id(leaf): leaf for group in optimizer.param_groups for leaf in group["params"]}
        leaves = list(distinct.values())
        sizes = [leaf.numel() if leaf.requires_grad else 0 for leaf in leaves]
        share = balanced_share(sizes, int(trainer.global_rank), int(trainer.world_size))
        mine = [leaves[place] for place in share]
        groups = len(optimizer.param_groups)
        self._looked[id(optimizer)] = _Looked(optimizer, groups, leaves, share, mine, TensorNorms(mine))
        return self._looked[id(optimizer)]

    def _read(self, looked: _Looked) -> Norms | None:
        gradients = [gradient for leaf in looked.mine if (gradient := leaf.grad) is not None]
        places = looked.share
        if len(gradients) < len(places):
            places = tuple(place for place, leaf in zip(places, looked.mine, strict=True) if leaf.grad is not None)
        if not gradients:
            return Norms((), (), None) if any(leaf.grad is not None for leaf in looked.leaves) else None
        # What stands in `grad` requires no gradient unless a second one will be taken.
        if gradients[0].requires_grad:
            gradients = [one.detach() for one in gradients]
        return Norms(places, looked.norm.of(gradients), None)
