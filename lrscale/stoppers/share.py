"""How much of their horizons trials under a stopper are expected to train."""

from __future__ import annotations

import math
import random

from lrscale.stoppers.base import AbstractStopper, Candidate, Earlier

DRAWS = 60
"""Searches that are played: the mean share is then known to about a hundredth."""


def expected_shares(stopper: AbstractStopper, trials: int, validations: int, at_once: int = 1) -> list[float]:
    """Return the mean share of the horizon that each of some trials trains, in (0, 1], in their order.

    Trials are taken as drawn in any order, and the better of two as the better one at every validation: a searcher that
    learns asks for ever better ones, of which more pass, and noise makes the order of two trials change, so that fewer
    of the good ones do.

    Parameters
    ----------
    stopper : AbstractStopper
        The rule.
    trials : int
        How many.
    validations : int
        Validations over the horizon.
    at_once : int, optional
        Trials that know nothing of each other. Default 1.

    Examples
    --------
    >>> from lrscale.stoppers import SuccessiveHalving
    >>> shares = expected_shares(SuccessiveHalving(), 40, 10)
    >>> shares[0], 0.2 < sum(shares) / 40 < 0.3
    (1.0, True)
    """
    usual = stopper.usual_shares(trials, validations)
    if usual is not None:
        return usual
    rng, sides = random.Random(0), random.Random(1)
    totals = [0.0] * trials
    for _ in range(DRAWS):
        earlier: list[Earlier] = []
        for first in range(0, trials, at_once):
            ended = [
                _played(stopper, number, rng.random(), sides.choice((-1, 1)), earlier, validations)
                for number in _round(first, at_once, trials)
            ]
            for one in ended:
                totals[one.number] += len(one.losses) / validations
            earlier += ended
    return [total / DRAWS for total in totals]


def _round(first: int, at_once: int, trials: int) -> range:
    return range(first, min(first + at_once, trials))


def _played(
    stopper: AbstractStopper, number: int, loss: float, side: int, earlier: list[Earlier], validations: int
) -> Earlier:
    # One batch size, and a slice that rises by its distance from the best LR.
    lr = math.exp(side * loss)
    decayed = {place: place / validations for place in range(1, validations + 1)}
    candidate = Candidate(lr=lr, batch_size=1, decayed=decayed)
    bounds = stopper.bounds(number, earlier, validations, candidate)
    end = next((place for place in sorted(bounds) if loss > bounds[place].loss), validations)
    losses = dict.fromkeys(range(1, end + 1), loss)
    return Earlier(number=number, losses=losses, completed=end == validations, lr=lr, batch_size=1)
