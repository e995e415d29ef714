"""How a trial counts in an analysis."""

from __future__ import annotations

from collections.abc import Iterable

from lrscale.store import Trial


def counts_as_diverged(trial: Trial, others: Iterable[Trial]) -> bool:
    """Whether a trial says that its LR is too high.

    A trial whose module raised an error counts as diverged when a smaller LR of the same batch size and schedule was
    completed: modules often raise on values that are no longer numbers. At the smallest LR a crash is a crash.
    Processes that were lost, however often, say nothing about an LR.
    """
    if trial.record.status == "diverged":
        return True
    if trial.record.status != "crashed" or trial.record.retryable or trial.record.runs_lost:
        return False
    return any(
        other.record.status == "completed"
        and other.spec.peak_lr < trial.spec.peak_lr
        and other.spec.global_batch_size == trial.spec.global_batch_size
        and other.spec.schedule == trial.spec.schedule
        for other in others
    )


def usable(trials: Iterable[Trial]) -> tuple[list[Trial], list[bool]]:
    """Return the trials that a slice is fitted to, and which of them diverged; crashes of other kinds are left out."""
    trials = list(trials)
    diverged = [counts_as_diverged(trial, trials) for trial in trials]
    kept = [
        (trial, bad) for trial, bad in zip(trials, diverged, strict=True) if bad or trial.record.status == "completed"
    ]
    return [trial for trial, _ in kept], [bad for _, bad in kept]
