"""Questions that the task, or all of their trials, have refused: the study goes on with the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrscale.errors import LrscaleError
from lrscale.study.experiments import AbstractExperiment
from lrscale.study.finding import Check, Finding

REFUSED = "refused"
"""Entry of a plan: by experiment, what ended its trials. Entry of the finding that says so."""


def note_refusal(plan: dict[str, Any], experiment: AbstractExperiment, error: LrscaleError | None) -> None:
    """Keep in the plan what ended the trials of an experiment, or, with None, that nothing has."""
    if error is not None:
        plan.setdefault(REFUSED, {})[experiment.key] = {"message": error.message, "hint": error.hint}
    elif plan.get(REFUSED, {}).pop(experiment.key, None) is not None and not plan[REFUSED]:
        del plan[REFUSED]


def with_refusal(finding: Finding, plan: Mapping[str, Any]) -> Finding:
    """Return a finding that says what ended the trials, where something did.

    What was found before that stands. Where nothing was, the sentence is the reason and what it would take.

    Examples
    --------
    >>> found = Finding(key="horizons", title="Horizons", status="cannot_tell", sentence="No horizon has a best LR.")
    >>> told = {"message": "the training data are a stream", "hint": "give a dataset with __len__ and __getitem__"}
    >>> with_refusal(found, {"refused": {"horizons": told}}).sentence
    'Cannot tell: the training data are a stream; give a dataset with __len__ and __getitem__.'
    """
    entry = plan.get(REFUSED, {}).get(finding.key)
    if entry is None:
        return finding
    message, hint = str(entry["message"]).rstrip("."), entry["hint"]
    check = Check(
        name=f"{finding.title}: trials", status="FAIL", sentence=f"No further trial could run: {message}.", remedy=hint
    )
    sentence, checks = finding.sentence, finding.checks
    if finding.status != "ok":
        # Of a reason that spans lines the first says what happened; all of it is in the trial's log.
        told = message.splitlines()[0].rstrip(":. ")
        sentence = f"Cannot tell: {told}{'' if hint is None else f'; {hint}'}."
        # What they ask for would change nothing.
        checks = ()
    return dataclasses.replace(
        finding, sentence=sentence, checks=(*checks, check), data={**finding.data, REFUSED: dict(entry)}
    )
