"""Which trunks and cooldowns are asked for: a search of the best LR at each horizon, from the shortest to the longest.

A trunk is trained as far as the longest horizon that asks for its LR, and cools down at the horizons that do. What a
shorter horizon leaves out costs the longer ones nothing, and theirs is where nearly all examples go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from lrscale.laws import LRSliceFit, fit_lr_slice
from lrscale.laws.lr_slice.lattice import lattice_index, lattice_lr
from lrscale.laws.lr_slice.lr_search import LRSearch
from lrscale.store import Trial, TrialSpec
from lrscale.study.branch_states import reaches
from lrscale.study.experiments.base import Context
from lrscale.study.horizons.trunks import Trunks

DRIFT = -0.32
"""Power by which the best LR goes with the horizon at a fixed batch (Bjorck et al. 2024, arXiv:2409.19913): where the
search at a longer horizon begins. The losses decide where it ends."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cooldown at a horizon that was asked for."""

    lr: float
    seed: int
    horizon: int


@final
class Walk:
    """Trunks and cooldowns that were asked for, and the losses of those that have ended.

    Parameters
    ----------
    context : Context
        What is known.
    trunks : Trunks
        What is asked.
    start_lr : float
        Where the search at the shortest horizon begins.
    """

    def __init__(self, context: Context, trunks: Trunks, start_lr: float) -> None:
        self._context = context
        self._trunks = trunks
        self._specs: dict[str, TrialSpec] = {}
        self.losses: dict[Place, float | None] = {}
        """Of those that have ended: infinite where training diverged, None where nothing tells it."""
        self.open = False
        """Whether one is still to end."""
        own = trunks.settings
        if own.learning_rates is None:
            self._search(lattice_index(start_lr, own.ratio))
        else:
            for seed in range(own.seeds):
                for lr in own.learning_rates:
                    for horizon in trunks.horizons:
                        self._ask(lr, seed, horizon)

    @property
    def specs(self) -> list[TrialSpec]:
        """Every trial wanted so far, in the order in which they should run."""
        return list(self._specs.values())

    @property
    def trials(self) -> list[Trial]:
        """Those that have ended."""
        return self._context.finished(self.specs)

    @property
    def cost_ratio(self) -> float | None:
        """Examples planned for the trunks and cooldowns over those of runs of their own at the same places.

        None while nothing has ended. Where training diverged, both are counted up to there.
        """
        size = self._trunks.batch_size
        own = sum(self._own_steps(place) * size for place in self.losses)
        spent = sum(
            spec.own_examples if trial.record.status != "diverged" else trial.record.examples
            for spec in self.specs
            if (trial := self._context.ended(spec)) is not None
        )
        return spent / own if own else None

    def slices(self, *, tolerance: float) -> dict[int, LRSliceFit]:
        """Return the fitted LR slice of each horizon that has a loss."""
        found = {}
        for horizon in self._trunks.horizons:
            known = list(self._known(horizon))
            if any(math.isfinite(loss) for _, _, loss in known):
                found[horizon] = fit_lr_slice(
                    [lr for lr, _, _ in known],
                    [loss if math.isfinite(loss) else math.nan for _, _, loss in known],
                    diverged=[not math.isfinite(loss) for _, _, loss in known],
                    seed=[seed for _, seed, _ in known],
                    tolerance=tolerance,
                )
        return found

    def losses_at(self, lr: float, horizon: int) -> dict[int, float]:
        """Return the finite losses, by seed, of the LR tried at a horizon that is nearest to one."""
        nearest = self.nearest(lr, horizon)
        return {seed: loss for own, seed, loss in self._known(horizon) if own == nearest and math.isfinite(loss)}

    def nearest(self, lr: float, horizon: int) -> float | None:
        """Return the LR tried at a horizon that is nearest to one; None while there is none."""
        tried = {own for own, _, _ in self._known(horizon)}
        return min(tried, key=lambda own: abs(math.log(own / lr)), default=None)

    def lowest(self, horizon: int) -> float | None:
        """Return the tried LR with the lowest loss at a horizon; None while there is none."""
        losses = [(loss, lr) for lr, _, loss in self._known(horizon)]
        return min(losses)[1] if losses else None

    def _search(self, start: int) -> None:
        """Ask for what the search of each horizon wants, each begun by what the first replicate says of the last."""
        own, ladder = self._trunks.settings, [start - 2, start, start + 2]
        before = self._trunks.horizons[0]
        best: float = start
        for horizon in self._trunks.horizons:
            if horizon != before:
                drift = DRIFT * math.log(horizon / before) / math.log(own.ratio)
                middle = round(best + drift)
                ladder = [middle - 1, middle, middle + 1]
            # The first replicate alone says where the next search begins: others may come in before it has, or after.
            first = self._searched(horizon, ladder, seeds=1)
            if first is None:
                break
            if own.seeds > 1:
                self._searched(horizon, ladder, seeds=own.seeds)
            finite = {index: loss for (index, _), loss in first.items() if math.isfinite(loss)}
            # Where all have diverged, so will they further on.
            best = min(finite, key=lambda index: finite[index]) if finite else min(index for index, _ in first)
            before = horizon
        if not self.open:
            self._cool_at_longest()

    def _searched(self, horizon: int, ladder: Sequence[int], *, seeds: int) -> dict[tuple[float, int], float] | None:
        """Ask for what a search wants at one horizon; return its losses, or None while it waits for some."""
        own = self._trunks.settings
        search = LRSearch.on_lattice(seeds=seeds, most=own.max_learning_rates, ratio=own.ratio)
        losses: dict[tuple[float, int], float] = {}
        while True:
            new = [key for key in search.next(losses, ladder) if key not in losses]
            for index, seed in new:
                place = self._ask(lattice_lr(index, own.ratio), seed, horizon)
                if place in self.losses:
                    loss = self.losses[place]
                    # One that failed for a reason of its own counts as diverged: the search needs a direction.
                    losses[index, seed] = math.inf if loss is None else loss
            if not new:
                return losses
            if any(key not in losses for key in new):
                return None

    def _cool_at_longest(self) -> None:
        """Ask for a cooldown of every horizon at the best LR of the longest one.

        Together with the trunk they are schedules at one peak LR, to which a law of the loss along training is fitted.
        """
        lr = self.lowest(self._trunks.horizons[-1])
        if lr is not None:
            for horizon in self._trunks.horizons[:-1]:
                self._ask(lr, 0, horizon)

    def _ask(self, lr: float, seed: int, horizon: int) -> Place:
        """Want a cooldown and the trunk up to it, as far as that comes, and note its loss where it has ended."""
        place = Place(lr=lr, seed=seed, horizon=horizon)
        for part in self._trunks.trunk(self._context, lr, seed, horizon):
            ended = self._want(part)
            if ended is None:
                self.open = True
                # What branches off from it waits for it, and is wanted: it keeps its state for those.
                continue
            if not reaches(ended, part.horizon):
                self.losses[place] = math.inf if ended.record.status == "diverged" else None
                return place
        cooled = self._want(self._trunks.cooldown(self._context, lr, seed, horizon))
        if cooled is None:
            self.open = True
        else:
            loss = cooled.record.final_loss
            self.losses[place] = loss if loss is not None else math.inf if cooled.record.status == "diverged" else None
        return place

    def _want(self, spec: TrialSpec) -> Trial | None:
        self._specs[spec.trial_id] = spec
        return self._context.ended(spec)

    def _own_steps(self, place: Place) -> int:
        """Return the steps of the run of its own at a place: up to where the trunk diverged, if it did."""
        done = 0
        for part in self._trunks.trunk(self._context, place.lr, place.seed, place.horizon):
            ended = self._context.ended(part)
            if ended is None or not reaches(ended, part.horizon):
                return done + (0 if ended is None else ended.record.steps)
            done += ended.record.steps
        return place.horizon

    def _known(self, horizon: int) -> Iterator[tuple[float, int, float]]:
        # In an order of its own: an answer must not depend on who was asked for first.
        for place in sorted(self.losses, key=lambda place: (place.lr, place.seed)):
            loss = self.losses[place]
            if place.horizon == horizon and loss is not None:
                yield place.lr, place.seed, loss
