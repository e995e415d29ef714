"""What engines share whose trials may end early by a rule of `lrscale.stoppers`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lrscale.recipe.engines import PrunerChoice
from lrscale.stoppers import expected_shares
from lrscale.store import TrialSpec
from lrscale.study.search.setup import Setup


def pruner_name(pruner: PrunerChoice) -> str | None:
    """Return the name of the rule, or None where every trial trains to its horizon."""
    return None if pruner.stopper() is None else pruner.name


def pruner_method(pruner: PrunerChoice, by: str) -> str | None:
    """Return how trials end early, in a paragraph for the report; None where they do not.

    Parameters
    ----------
    pruner : PrunerChoice
        The rule.
    by : str
        Whose rule it is, before its name.
    """
    if pruner.stopper() is None:
        return None
    if pruner.name == "survivors":
        return (
            "Trials end early by the rule survivors, at an equal share of the decay and from half of it on: with a "
            "loss above those of two completed trials or more of the same batch size, on the same side of the best "
            "LR and nearer to it. Its schedule is that of the full horizon. A stopped trial has no loss at equal "
            "examples and is never named."
        )
    if pruner.name == "predicted":
        return (
            "Trials end early by the rule predicted: where the loss at the horizon, as completed trials tell it at the "
            "same share of it, is surely above the lowest one. Its schedule is that of the full horizon. A stopped "
            "trial has no loss at equal examples and is never named."
        )
    return (
        f"Trials end early by {by} {pruner.name.replace('_', ' ')}: at each validation a trial is held against what "
        "earlier trials had there. Its schedule is that of the full horizon. A stopped trial has no loss at equal "
        "examples and is never named. Such rules compare losses before the LR has decayed, where a low LR and a small "
        "batch look better than they end."
    )


def usual_parts(specs: Sequence[TrialSpec], pruner: PrunerChoice, setup: Setup, asked: int) -> list[TrialSpec]:
    """Return specs with the horizons that they usually come to under a rule; for estimates of cost.

    Parameters
    ----------
    specs : sequence of TrialSpec
        Whole ones, of the trials that are still to be asked for.
    pruner : PrunerChoice
        The rule.
    setup : Setup
        Of the search.
    asked : int
        Trials that have been asked for.
    """
    stopper = pruner.stopper()
    if stopper is None:
        return list(specs)
    shares = expected_shares(stopper, setup.trials, setup.validations, setup.at_once)[asked:]
    return [
        dataclasses.replace(spec, horizon=max(1, round(share * spec.horizon)))
        for spec, share in zip(specs, shares, strict=False)
    ]
