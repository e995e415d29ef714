"""Coverage of the interval of the critical batch size; benchmarks/coverage_steps.py prints the whole table."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from lrscale.laws.steps import fit_steps_to_target

from .simulated import FEWEST, KNEE, runs


@pytest.mark.parametrize(
    ("batches", "studies", "design"),
    [
        (5, 150, {"seeds": 1, "noise": 0.06}),
        (6, 120, {"seeds": 3, "noise": 0.03, "tuning": 0.05}),
        (6, 50, {"seeds": 2, "noise": 0.08, "budget": 1.0}),
    ],
)
def test_the_interval_covers_the_true_critical_batch_size(batches, studies, design):
    rng = np.random.default_rng(9)
    covered = {"critical_batch": 0, "S_min": 0, "E_min": 0}
    for _ in range(studies):
        place = 4.0 ** (np.arange(batches) - (batches - 1) / 2 + rng.uniform(-0.5, 0.5))
        own = runs(rng, place=place, **design)
        fit = fit_steps_to_target(own.batch, own.steps, censored=own.censored if own.censored.any() else None)
        for name, truth in (("critical_batch", KNEE), ("S_min", FEWEST), ("E_min", FEWEST * KNEE)):
            covered[name] += fit.estimate(name).interval.contains(truth)
    for name, count in covered.items():
        # An interval with 93 % coverage falls below this count once in a thousand runs.
        assert count >= binom.ppf(1e-3, studies, 0.93), name
