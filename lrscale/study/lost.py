"""Trials whose processes were lost: what waits for them, and when they are given up."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lrscale.store import Trial, TrialRecord, TrialSpec
from lrscale.study.experiments.base import AbstractExperiment, Context
from lrscale.study.finding import Check, Finding

LOST = "lost"
"""Entry of plan.json: in how many runs each trial that is not there yet was lost, by id."""
MOST_RUNS = 5
"""Runs that may lose a trial, each after as many attempts as its launcher makes. One that ends so in five runs on end
is taken for one that the machine cannot carry, as when it runs out of memory. Fewer would do for that, which each run
says; but where processes are killed all the time, three in a row are no rarity."""
REMEDY = "run the same command again: it begins with the trials that were lost"


def counted(record: TrialRecord, plan: dict[str, Any]) -> TrialRecord:
    """Return the record of a trial that has ended, with the runs that have lost it; the plan keeps the count.

    In the last run that may lose it, it becomes a trial that crashed and is not tried again.
    """
    times: dict[str, int] = plan.setdefault(LOST, {})
    if not record.retryable:
        times.pop(record.trial_id, None)
        return record
    if record.status != "crashed":
        # It ran out of a job's time: a longer one can bring it, which is for the user to say.
        return record
    runs = times.get(record.trial_id, 0) + 1
    if runs < MOST_RUNS:
        times[record.trial_id] = runs
        return dataclasses.replace(record, runs_lost=runs)
    times.pop(record.trial_id, None)
    reason = f"{record.reason}; {runs} runs of the study have lost it, and it is not tried again"
    return dataclasses.replace(record, runs_lost=runs, retryable=False, reason=reason)


def open_trials(experiment: AbstractExperiment, context: Context, wanted: Iterable[TrialSpec]) -> list[Trial]:
    """Return the trials wanted by a question that were lost and are to run once more before it is answered."""
    if not experiment.waits_for_lost:
        return []
    return [trial for trial in context.finished(wanted) if trial.record.retryable]


def with_lost_check(finding: Finding, lost: Sequence[Trial]) -> Finding:
    """Return a finding with a check that names the trials that it could not use."""
    if not lost:
        return finding
    check = Check(
        name=f"{finding.title}: lost trials",
        status="WARNING",
        sentence=f"{lost_text(lost)} and {'say' if len(lost) > 1 else 'says'} nothing yet.",
        remedy=REMEDY,
    )
    return dataclasses.replace(finding, checks=(*finding.checks, check))


def waiting_finding(experiment: AbstractExperiment, before: Sequence[str]) -> Finding:
    """Return the answer to a question that has no trial yet, and starts from others that wait for lost trials.

    Parameters
    ----------
    experiment : AbstractExperiment
    before : sequence of str
        Titles of the others.
    """
    sentence = f"Cannot tell yet: it starts from what others find ({', '.join(before)}), which wait for lost trials."
    check = Check(name=f"{experiment.title}: waits", status="WARNING", sentence=sentence, remedy=REMEDY)
    return Finding(
        key=experiment.key,
        title=experiment.title,
        status="cannot_tell",
        sentence=sentence,
        checks=(check,),
        data={LOST: list(before)},
    )


def waits(finding: Finding) -> bool:
    """Whether a finding is that of a question that waits for lost trials of others."""
    return LOST in finding.data


def lost_text(lost: Sequence[Trial]) -> str:
    """Return how many trials were lost and what is said to have ended them, as the begin of a sentence."""
    reasons = Counter(trial.record.reason or "without a word" for trial in lost)
    told = "; ".join(reason if times == 1 else f"{times} x {reason}" for reason, times in reasons.most_common(2))
    more = "; ..." if len(reasons) > 2 else ""
    return f"{len(lost)} {'trials were' if len(lost) > 1 else 'trial was'} lost ({told}{more})"


def held_up(experiment: AbstractExperiment, waiting: Mapping[str, str]) -> list[str]:
    """Return the titles of the questions that an experiment starts from and that wait.

    Parameters
    ----------
    experiment : AbstractExperiment
    waiting : mapping of str to str
        Titles of the questions that wait, by key.
    """
    return [title for key, title in waiting.items() if key in experiment.starts_from]
