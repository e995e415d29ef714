"""Reads the norm of every micro-gradient: what one backward of one rank adds, before any exchange."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, final

import torch
from torch import Tensor

from lrscale.training.instruments.backward_end import BackwardEnd

HELD_BYTES = 64 * 2**20
"""Gradients that hooks see are held until this many bytes are together, then reduced to norms in one call. A held
gradient is copied by autograd instead of handed over, so this bounds the extra memory of a backward."""
LEAST_ADAM_STEPS = 5
"""Optimizer steps before the second moments of Adam are used; the first ones are single squared gradients."""


@final
@dataclass(frozen=True, slots=True)
class Norms:
    """Norms of the gradients of one backward."""

    places: tuple[int, ...]
    """Of the parameters that have a gradient; the norm of the others is 0."""
    plain: tuple[Tensor, ...]
    """One for each place, of shape (); whoever can wait puts those of many steps together in one call."""
    preconditioned: tuple[Tensor, ...] | None
    """The same of the gradients divided by Adam's denominators."""


@final
class MicroGradients:
    """Reads the gradients of each backward of this rank.

    There are two ways. With `direct`, ``grad`` holds nothing but this backward and is read at its end, before
    DistributedDataParallel writes the average of the ranks over it (`BackwardEnd`). Otherwise a hook on every leaf sees
    the gradient of this backward alone, summed over all uses of the leaf, before it is accumulated into ``grad`` and
    before it enters a bucket. Neither returns anything, so autograd goes on with the same numbers.

    Parameters
    ----------
    parameters : sequence of Tensor
        Distinct leaves that require a gradient, at least one.
    denominators : AdamDenominators or None, optional
        What Adam divides their gradients by. Default None.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        denominators: AdamDenominators | None = None,
    ) -> None:
        self.parameters = list(parameters)
        self._seconds = 0.0
        self._denominators = denominators
        self._all = tuple(range(len(self.parameters)))
        self._rows = {id(leaf): row for row, leaf in enumerate(self.parameters)}
        self._placed: dict[tuple[int, ...], tuple[tuple[int, ...], list[int]]] = {}
        self._norm = TensorNorms(self.parameters)
        self._handles: list[Any] = []
        self._held: dict[int, Tensor] = {}
        self._held_bytes = 0
        self._done: list[Norms] = []
        self._open = False
        self._direct = False
        self._end: BackwardEnd[Norms] = BackwardEnd(self.parameters, self._read)
        self._precondition = False
        self.pieces = 0
        """Gradients that came in several pieces within one backward, as reentrant checkpointing makes them."""

    def listen(self, on: bool) -> None:
        """Put the hooks on the leaves, or take them off."""
        if on and not self._handles:
            self._handles = [
                leaf.register_hook(self._hook(place))  # type: ignore[no-untyped-call]  # torch leaves it untyped
                for place, leaf in enumerate(self.parameters)
            ]
        elif not on and self._handles:
            for handle in self._handles:
                handle.remove()
            self._handles = []
            self._held.clear()

    def detach(self) -> None:
        """Take all hooks off the leaves."""
        self.listen(False)
        self._end.remove()

    def look(self) -> None:
        """Find out anew which gradient comes last, where a step is one backward; a module may have changed its ways."""
        self._end.remove()

    def open(self, *, direct: bool, precondition: bool) -> None:
        """Take the gradients of the backward that comes."""
        self._precondition, self._direct = precondition, direct
        if direct:
            self._end.open()
            return
        self._held.clear()
        self._held_bytes = 0
        self._done = []
        self._open = True

    def close(self) -> Norms | None:
        """Return the norms of the backward that ended, None where no gradient came."""
        if self._direct:
            return self._end.take()
        self._open = False
        self._reduce()
        done, self._done = self._done, []
        if len(done) < 2:
            return done[0] if done else None
        own = tuple(norm for part in done if part.preconditioned is not None for norm in part.preconditioned)
        places = tuple(place for part in done for place in part.places)
        return Norms(places, tuple(norm for part in done for norm in part.plain), own or None)

    def placed(self, norms: Norms, leaves: Callable[[], Sequence[Tensor]]) -> Norms:
        """Return norms whose places are those of `leaves` by the places of `parameters`; others are left out."""
        known = self._placed.get(norms.places)
        if known is None:
            there = leaves()
            rows = [self._rows.get(id(there[place])) for place in norms.places]
            kept = [column for column, row in enumerate(rows) if row is not None]
            known = self._placed[norms.places] = tuple(row for row in rows if row is not None), kept
        places, kept = known
        if len(kept) == len(norms.places):
            return Norms(places, norms.plain, None)
        return Norms(places, tuple(norms.plain[column] for column in kept), None)

    def divided(self, norms: Norms) -> Norms:
        """Return norms of what stands in ``grad`` together with those of the same gradients divided."""
        if self._denominators is None:
            return norms
        if not norms.places:
            return Norms((), (), ())
        present = [self.parameters[place].grad for place in norms.places]
        gradients = [gradient.detach() for gradient in present if gradient is not None]
        return Norms(norms.places, norms.plain, self._divided_norms(norms.places, gradients, self._denominators))

    def take_seconds(self) -> float:
        """Return the time that was spent inside of backwards since it was asked last."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def norms(self, gradients: list[Tensor | None], *, precondition: bool) -> Norms | None:
        """Return the norms of gradients in the order of the parameters, None where there is none."""
        present = [gradient for gradient in gradients if gradient is not None]
        if len(present) == len(gradients):
            return self._norms(self._all, present, precondition)
        places = tuple(place for place in self._all if gradients[place] is not None)
        return self._norms(places, present, precondition) if present else None

    def _read(self) -> Norms | None:
        began = perf_counter()
        norms = self.norms([leaf.grad for leaf in self.parameters], precondition=self._precondition)
        self._seconds += perf_counter() - began
        return norms

    def _hook(self, place: int) -> Callable[[Tensor], None]:
        leaf, held = self.parameters[place], self._held
        size = leaf.numel() * leaf.element_size()

        def hook(gradient: Tensor) -> None:
            # A penalty inside of the training step may ask for the gradient too; only a backward counts.
            if not self._open:
                return
            began = perf_counter()
            if place in held:
                self.pieces += 1
            held[place] = gradient
            self._held_bytes += size
            if self._held_bytes > HELD_BYTES:
                self._reduce()
            self._seconds += perf_counter() - began

        return hook

    def _reduce(self) -> None:
        if self._held:
            self._done.append(self._norms(tuple(self._held), list(self._held.values()), self._precondition))
            self._held.clear()
            self._held_bytes = 0

    def _norms(self, places: tuple[int, ...], gradients: list[Tensor], precondition: bool) -> Norms:
        # What autograd hands over, and what stands in `grad`, requires no gradient unless a second one will be taken.
        if gradients[0].requires_grad:
            gradients = [one.detach() for one in gradients]
        plain = self._norm.of(gradients)
        if not precondition or self._denominators is None:
            return Norms(places, plain, None)
        return Norms(places, plain, self._divided_norms(places, gradients, self._denominators))

    def _divided_norms(
        self, places: tuple[int, ...], gradients: list[Tensor], denominators: AdamDenominators
    ) -> tuple[Tensor, ...]:
        # In portions: a copy of all gradients, and one of all denominators, might be what the device has no room for.
        found: list[Tensor] = []
        start, held = 0, 0
        for end, gradient in enumerate(gradients, start=1):
            held += 4 * gradient.numel()
            if held > HELD_BYTES or end == len(gradients):
                dense = [one.to_dense() if one.is_sparse else one for one in gradients[start:end]]
                divided = torch._foreach_div([one.float() for one in dense], denominators.of(places[start:end]))
                found += norms_of(divided)
                start, held = end, 0
        return tuple(found)


@final
class TensorNorms:
    """Norms of the gradients of the same parameters, again and again.

    Parameters
    ----------
    parameters : sequence of Tensor
        Whose gradients are given, all of them or some.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._plain = all(leaf.dtype is torch.float32 for leaf in parameters)
        """Whether all have dense gradients of single precision, as far as was seen."""

    def of(self, gradients: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the Euclidean norms, each of shape (); gradients may be sparse."""
        if self._plain:
            try:
                return torch._foreach_norm(gradients)
            except (RuntimeError, NotImplementedError):
                # Sparse gradients, which the slower way takes too.
                self._plain = False
        return norms_of(gradients)


def norms_of(gradients: list[Tensor] | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the Euclidean norms of tensors, each of shape ()."""
    if any(one.dtype is not torch.float32 or one.is_sparse for one in gradients):
        gradients = [_plain(one) for one in gradients]
    return torch._foreach_norm(gradients)


def _plain(gradient: Tensor) -> Tensor:
    if gradient.is_sparse:
        gradient = gradient.coalesce().values()
    # The norm of a half-precision tensor comes back in half precision, where 65504 is the end.
    return gradient if gradient.dtype in (torch.float32, torch.float64) else gradient.float()


@final
class AdamDenominators:
    """``sqrt(v_hat) + eps`` of each parameter, as it stood before the step (Kingma and Ba 2015, arXiv:1412.6980).

    Not to use the present gradient keeps the preconditioned estimates unbiased.

    Parameters
    ----------
    parameters : sequence of Tensor
        In the order that places refer to.
    optimizers : sequence of Optimizer
        Those that own them.
    """

    def __init__(self, parameters: Sequence[Tensor], optimizers: Sequence[Any]) -> None:
        owners = {
            id(leaf): (optimizer, group)
            for optimizer in optimizers
            for group in optimizer.param_groups
            for leaf in group["params"]
        }
        self._rows = [(leaf, *owners[id(leaf)]) for leaf in parameters]
        self._scalars: dict[int, tuple[float, float]] = {}

    @property
    def possible(self) -> bool:
        """Whether every parameter belongs to an optimizer of Adam's kind."""
        return all("betas" in group and "eps" in group for _, _, group in self._rows)

    def ready(self) -> bool:
        """Whether every parameter that has been stepped has the second moments of some steps."""
        states = [optimizer.state.get(leaf) for leaf, optimizer, _ in self._rows]
        found = [state for state in states if state]
        return bool(found) and all(
            "exp_avg_sq" in state and float(state.get("step", 0)) >= LEAST_ADAM_STEPS for state in found
        )

    def refresh(self) -> None:
        """Note the optimizers' present steps; they hold for the step that is under way."""
        self._scalars = {
            place: (1 - float(group["betas"][1]) ** float(optimizer.state[leaf]["step"]), float(group["eps"]))
            for place, (leaf, optimizer, group) in enumerate(self._rows)
            if optimizer.state.get(leaf)
        }

    def of(self, places: Sequence[int]) -> list[Tensor]:
        """Return those of the parameters in `places`; 1 for a parameter that was never stepped.

        They are computed anew each time, since the optimizer's state is what it was until the step ends.
        """
        known = [place for place in places if place in self._scalars]
        squares = []
        for place in known:
            leaf, optimizer, group = self._rows[place]
            state = optimizer.state[leaf]
            squares.append(state["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"].float())
        values: dict[int, Tensor] = {}
        if known:
            corrections, epsilons = zip(*(self._scalars[place] for place in known), strict=True)
            with torch.no_grad():
                roots = torch._foreach_sqrt(torch._foreach_div(squares, list(corrections)))
                torch._foreach_add_(roots, list(epsilons))
            values = dict(zip(known, roots, strict=True))
        return [
            values[place] if place in values else torch.ones((), device=self._rows[place][0].device) for place in places
        ]
