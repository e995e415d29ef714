"""The stoppers end a trial exactly where Optuna's pruners of the same name do."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest

from lrscale.stoppers import Earlier, build_stopper
from lrscale.stoppers.hyperband import STUDY_NAME

optuna = pytest.importorskip("optuna")
VALIDATIONS = 10
TRIALS = 60


def pruner(name: str, **settings: int) -> Any:
    """Return Optuna's own."""
    if name == "median":
        return optuna.pruners.MedianPruner(
            n_startup_trials=settings.get("startup", 5), n_warmup_steps=settings.get("first", 1)
        )
    if name == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=settings.get("first", 1), reduction_factor=settings.get("reduction_factor", 4)
        )
    return optuna.pruners.HyperbandPruner(
        min_resource=settings.get("first", 1),
        max_resource=VALIDATIONS,
        reduction_factor=settings.get("reduction_factor", 3),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("median", {}),
        ("median", {"startup": 2, "first": 3}),
        ("successive_halving", {}),
        ("successive_halving", {"reduction_factor": 2, "first": 2}),
        ("hyperband", {}),
        ("hyperband", {"reduction_factor": 2, "first": 2}),
    ],
)
def test_a_trial_ends_where_optuna_prunes_it(name: str, settings: dict[str, int], seed: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = random.Random(seed)
    stopper = build_stopper(name, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(study_name=STUDY_NAME, pruner=pruner(name, **settings))
    earlier: list[Earlier] = []
    stopped = 0
    for number in range(TRIALS):
        bounds = stopper.bounds(number, earlier, VALIDATIONS)
        trial = study.ask()
        level, losses = rng.random(), {}
        for place in range(1, VALIDATIONS + 1):
            losses[place] = round(level + rng.gauss(0, 0.2) + 1 / place, 2)
            trial.report(losses[place], place)
            judged = losses[place] if stopper.judged == "latest" else min(losses.values())
            ours = place in bounds and judged > bounds[place].loss
            if place < VALIDATIONS:
                assert ours == trial.should_prune(), f"trial {number} at validation {place}"
            if ours:
                break
        completed = len(losses) == VALIDATIONS
        stopped += not completed
        state = optuna.trial.TrialState.COMPLETE if completed else optuna.trial.TrialState.PRUNED
        study.tell(trial, losses[VALIDATIONS] if completed else None, state=state)
        earlier.append(Earlier(number=number, losses=losses, completed=completed))
    assert 5 < stopped < TRIALS
