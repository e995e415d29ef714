"""Whether a trial whose attempts did not end gets another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrscale.launch.slurm.states import OUTSIDE, WORDS
from lrscale.store import TrialRecord
from lrscale.units import Layout

ATTEMPTS = 2
"""A trial whose job died for a reason that may be the trial's is run once more."""
INTERRUPTIONS = 6
"""Attempts, ended for whatever reason, after which a trial is given up until the study is run again."""


def verdict(trial_id: str, layout: Layout, past: Sequence[Mapping[str, Any]]) -> TrialRecord | None:
    """Return the record of a trial that is run no more, or None where another attempt can help.

    Parameters
    ----------
    trial_id : str
        The trial.
    layout : Layout
        Where it ran.
    past : sequence of mapping
        Why its attempts did not end, the oldest first: ``job``, ``cause`` (a state of SLURM, a signal, or ``"time"``),
        ``beside`` (trials that ran in the same job), ``log`` (last lines), and for ``"time"`` whether it ``had`` the
        ``whole`` of a job.

    Examples
    --------
    >>> cut = {"job": "7", "cause": "time", "whole": False, "had": 80.0}
    >>> verdict("ab", Layout(per_device_batch_size=1), [cut]) is None
    True
    >>> verdict("ab", Layout(per_device_batch_size=1), [cut, {**cut, "whole": True, "had": 580.0}]).reason
    'still running after 580 s, all that a job had for it; set a longer slurm.time'
    """
    whole = next((attempt for attempt in past if attempt.get("cause") == "time" and attempt.get("whole")), None)
    if whole is not None:
        had = float(whole.get("had", 0.0))
        return TrialRecord(
            trial_id=trial_id,
            status="timed_out",
            reason=f"still running after {had:.0f} s, all that a job had for it; set a longer slurm.time",
            layout=layout,
            timing={"total": had},
            # In a longer job it can end.
            retryable=True,
        )
    last = past[-1] if past else {}
    if last.get("cause") == "OUT_OF_MEMORY" and not last.get("beside"):
        return TrialRecord(
            trial_id=trial_id,
            status="out_of_memory",
            reason=f"job {last.get('job')} ran out of memory; set more slurm.mem, or a smaller batch per device",
            layout=layout,
            log_tail=tuple(last.get("log", ())),
        )
    own = [attempt for attempt in past if is_own(attempt)]
    if len(own) < ATTEMPTS and len(past) < INTERRUPTIONS:
        return None
    told = ", then ".join(f"job {attempt.get('job')} {_words(attempt)}" for attempt in (own if own else past)[-3:])
    return TrialRecord(
        trial_id=trial_id,
        status="crashed",
        reason=f"its job died {len(past)} times: {told}",
        layout=layout,
        retryable=True,
        log_tail=tuple((own or past)[-1].get("log", ())),
    )


def is_own(attempt: Mapping[str, Any]) -> bool:
    """Whether an attempt may have failed for a reason of the trial's own."""
    cause = str(attempt.get("cause"))
    return cause in WORDS and cause not in OUTSIDE


def _words(attempt: Mapping[str, Any]) -> str:
    return WORDS.get(str(attempt.get("cause")), "was told to go")
