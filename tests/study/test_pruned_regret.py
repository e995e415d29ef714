"""What it costs, and saves, to end trials of the planner early where curves cross before the decay."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lrscale.stoppers import Candidate, Earlier, build_stopper
from lrscale.stoppers.unfinished import Curve, estimate
from lrscale.study.planner import Planner, Space

COUNT = 10
SPACE = Space.lattice((1e-4, 1e-1), (16, 64, 256))
DECAYED = {place: (1 - math.cos(math.pi * place / COUNT)) / 2 for place in range(1, COUNT + 1)}
NOISE = 0.002


class Truth:
    """Losses of every setting at every validation, with a best LR that rises with the batch size up to a knee."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.best = 10 ** rng.uniform(-3.2, -1.8)
        self.at, self.knee = rng.choice([16, 64, 256]), rng.choice([64, 256])
        self.hot = rng.uniform(0.05, 0.15)

    def away(self, lr: float, batch: float) -> float:
        return math.log(lr / self.best * (1 + self.knee / batch) / (1 + self.knee / 64))

    def final(self, lr: float, batch: float) -> float:
        away, off = self.away(lr, batch), math.log(batch / self.at)
        basin = math.exp(-0.6 * away) / 0.6 + math.exp(1.1 * away) / 1.1 - 1 / 0.6 - 1 / 1.1
        return 2 + 0.06 * basin + 0.01 * off**2

    def losses(self, lr: float, batch: float) -> dict[int, float]:
        hot = self.hot * math.exp(0.7 * self.away(lr, batch)) * (64 / batch) ** 0.35
        end = self.final(lr, batch)
        return {place: end + 0.5 * (1 - place / COUNT) + hot * (1 - DECAYED[place]) for place in DECAYED}


def search(seed: int, rule: str | None, horizons: float) -> tuple[float, int]:
    """Return the regret of what a search names that may train for so many whole horizons, and its trials."""
    truth, rng = Truth(seed), np.random.default_rng([seed, 1])
    stopper = build_stopper(rule) if rule is not None else None
    earlier: list[Earlier] = []
    complete: dict[tuple[float, float], Curve] = {}
    stopped: dict[tuple[float, float], Curve] = {}

    def planner() -> Planner:
        found = Planner(SPACE, seed=seed)
        for (lr, batch), curve in complete.items():
            found.tell(lr, batch, curve.final)
        for (lr, batch), curve in stopped.items():
            told = estimate(curve, list(complete.values()))
            if told is not None:
                found.tell(lr, batch, told.loss, sd=told.sd)
        return found

    spent, number = 0.0, 0
    while True:
        lr, batch = setting = planner().ask()
        size = int(batch)
        losses = {place: loss + NOISE * rng.standard_normal() for place, loss in truth.losses(lr, batch).items()}
        bounds = {}
        if stopper is not None and setting not in stopped:
            candidate = Candidate(lr=lr, batch_size=size, decayed=DECAYED)
            bounds = stopper.bounds(number, earlier, COUNT, candidate)
        end = next((place for place in sorted(bounds) if losses[place] > bounds[place].loss), COUNT)
        spent += end / COUNT
        if spent > horizons + 1e-9:
            break
        number += 1
        seen = {place: loss for place, loss in losses.items() if place <= end}
        curve = Curve(lr=lr, batch_size=size, losses=seen, final=losses[COUNT] if end == COUNT else None)
        stopped.pop(setting, None)
        (complete if end == COUNT else stopped)[setting] = curve
        told = Earlier(number=number, losses=seen, completed=end == COUNT, lr=lr, batch_size=size)
        earlier = [*(one for one in earlier if (one.lr, one.batch_size) != (lr, size)), told]
    table = min(truth.final(*point) for point in SPACE.points)
    return truth.final(*planner().recommend()) - table, number


def test_low_lrs_look_good_before_the_decay_in_these_truths() -> None:
    for seed in range(10):
        truth = Truth(seed)
        lrs = np.unique(SPACE.points[:, 0])
        half = lrs[np.argmin([truth.losses(lr, 64)[3] for lr in lrs])]
        assert half < lrs[np.argmin([truth.final(lr, 64) for lr in lrs])]


@pytest.mark.slow
def test_at_equal_examples_more_trials_under_predicted_name_what_whole_ones_name() -> None:
    whole = [search(seed, None, 8.0) for seed in range(10)]
    pruned = [search(seed, "predicted", 8.0) for seed in range(10)]
    without, with_rule = (np.mean([regret for regret, _ in some]) for some in (whole, pruned))
    assert all(trials == 8 for _, trials in whole)
    assert np.mean([trials for _, trials in pruned]) > 9
    # The noise of a run, as a bound of what chance makes of the means of ten.
    assert with_rule < without + NOISE / 4
