"""Trials that may end early: the spec of one with the bounds that earlier ones give it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lrscale.stoppers import AbstractStopper, Bound, Candidate, Earlier, stopper_settings
from lrscale.store import TrialSpec
from lrscale.study.decayed import decayed_shares
from lrscale.study.validations import first_validations


def bounded(
    spec: TrialSpec,
    stopper: AbstractStopper,
    name: str,
    *,
    number: int,
    earlier: Sequence[Earlier],
    validations: int,
) -> TrialSpec:
    """Return a spec with the bounds at which its stopper ends it, by step.

    Parameters
    ----------
    spec : TrialSpec
        Without a stopper.
    stopper : AbstractStopper
    name : str
        Under which it is registered.
    number : int
        Place of the trial in the order in which trials were asked for, from 0.
    earlier : sequence of Earlier
        Trials that have ended.
    validations : int
        Validations over the horizon.
    """
    places = first_validations(spec, validations)
    candidate = Candidate(lr=spec.peak_lr, batch_size=spec.global_batch_size, decayed=decayed_shares(spec, validations))
    bounds: dict[int, Bound] = {}
    for place, bound in sorted(stopper.bounds(number, earlier, validations, candidate).items()):
        # Where a trial has fewer validations than that, one of them stands for several, and for the last of these.
        if places[place] < spec.horizon:
            bounds[places[place]] = bound
    return dataclasses.replace(spec, stopper=stopper_settings(name, bounds))
