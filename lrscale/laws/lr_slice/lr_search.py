"""Which LRs and seeds to try next at one batch size and schedule: a pure function of what is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from lrscale.laws.lr_slice.lattice import HIGHEST_LR, LOWEST_LR, lattice_index

Losses = Mapping[tuple[float, int], float]
"""Final loss by lattice index and replicate; infinity where the trial diverged."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LRSearch:
    """Brackets the best LR on a lattice of equal ratios, then spends seeds where they decide.

    First a ladder of three points two lattice steps apart, extended while its best is at an end. Then the neighbours of
    the best, until two LRs on each side are known; a diverged LR counts as one of the upper side, and a half step is
    tried below it. Then every seed at the best LR and its two neighbours: a vertex needs points on both sides, and its
    noise is decided near it.

    Parameters
    ----------
    seeds : int
        Replicates at the best LR and its neighbours.
    most : int
        Most distinct LRs.
    lowest, highest : float
        Lattice indices that the search stays within.
    """

    seeds: int
    most: int
    lowest: float
    highest: float

    @classmethod
    def on_lattice(cls, *, seeds: int, most: int, ratio: float) -> LRSearch:
        """Return a search on the lattice of a ratio, within the LRs that no search leaves.

        Parameters
        ----------
        seeds, most : int
            As above.
        ratio : float
            Of two neighbours on the lattice, above 1.

        Examples
        --------
        >>> search = LRSearch.on_lattice(seeds=2, most=8, ratio=2.0)
        >>> search.lowest, search.highest
        (-20, 20)
        """
        lowest, highest = (lattice_index(lr, ratio) for lr in (LOWEST_LR, HIGHEST_LR))
        return cls(seeds=seeds, most=most, lowest=lowest, highest=highest)

    def next(self, losses: Losses, start: int | Sequence[int]) -> list[tuple[float, int]]:
        """Return the lattice indices and replicates to run next; none when the search is done.

        Parameters
        ----------
        losses : mapping
            What is known.
        start : int or sequence of int
            Index in the middle of the first ladder, or the indices of the ladder itself, ascending.
        """
        first = {index: loss for (index, seed), loss in losses.items() if seed == 0}
        ladder = [start - 2, start, start + 2] if isinstance(start, int) else list(start)
        ladder = [index for index in ladder if self.lowest <= index <= self.highest]
        missing = [index for index in ladder if index not in first]
        if missing:
            return [(float(index), 0) for index in missing]
        # Where several seeds are known their mean decides: a lucky first seed must not end the search elsewhere.
        means = _means(losses, first)
        for proposal in (self._extended(means), self._neighbours(means)):
            if proposal:
                return [(index, 0) for index in proposal[: max(0, self.most - len(first))]]
        return self._replicates(losses, first)

    def _extended(self, means: Mapping[float, float]) -> list[float]:
        finite = {index: loss for index, loss in means.items() if math.isfinite(loss)}
        if not finite:
            return self._allowed([min(means) - 2], means)
        best = min(finite, key=lambda index: finite[index])
        proposal = []
        if best == min(means):
            proposal.append(best - 2)
        if best == max(means):
            proposal.append(best + 2)
        return self._allowed(proposal, means)

    def _neighbours(self, means: Mapping[float, float]) -> list[float]:
        finite = {index: loss for index, loss in means.items() if math.isfinite(loss)}
        if not finite:
            return []
        best = min(finite, key=lambda index: finite[index])
        beside = self._allowed([best - 1, best + 1], means)
        if beside:
            return beside
        below = sum(index < best for index in finite)
        above = sum(index > best for index in finite)
        blown = [index for index in means if index > best and not math.isfinite(means[index])]
        proposal = []
        if below < 2:
            proposal.append(min(finite) - 1)
        if above + min(1, len(blown)) < 2:
            # Half a step below divergence says more about the upper side than another diverged run.
            proposal.append(min(blown) - 0.5 if blown else max(finite) + 1)
        return self._allowed(proposal, means)

    def _replicates(self, losses: Losses, first: Mapping[float, float]) -> list[tuple[float, int]]:
        means = _means(losses, first)
        finite = sorted(index for index, loss in means.items() if math.isfinite(loss))
        if not finite:
            return []
        best = min(finite, key=lambda index: means[index])
        place = finite.index(best)
        chosen = finite[max(0, place - 1) : place + 2]
        return [(index, seed) for seed in range(1, self.seeds) for index in chosen if (index, seed) not in losses]

    def _allowed(self, proposal: list[float], known: Mapping[float, float]) -> list[float]:
        if len(known) >= self.most:
            return []
        return [index for index in proposal if self.lowest <= index <= self.highest and index not in known]


def _means(losses: Losses, indices: Mapping[float, float]) -> dict[float, float]:
    """Return the mean loss over the seeds known at each index; infinity where one of them diverged.

    A seed that ran at some of the indices only is put on the level of the first by what they have in common, so that
    its own level moves no index against another.
    """
    shifts: dict[int, float] = {}
    for seed in {seed for _, seed in losses}:
        shared = [
            loss - losses[index, 0]
            for (index, own), loss in losses.items()
            if own == seed and math.isfinite(loss) and math.isfinite(losses.get((index, 0), math.inf))
        ]
        shifts[seed] = sum(shared) / len(shared) if shared else 0.0
    known = {index: [loss - shifts[seed] for (at, seed), loss in losses.items() if at == index] for index in indices}
    return {index: sum(seen) / len(seen) for index, seen in known.items()}
