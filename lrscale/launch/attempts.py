"""Second chances: what was lost with its processes is tried once more, what fails by itself is not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.errors import StudyError, TaskError
from lrscale.launch.base import TrialRequest
from lrscale.launch.outcome import misuse, read_outcomes
from lrscale.launch.progress import AbstractProgress
from lrscale.store import TrialRecord

ATTEMPTS = 2
"""A trial whose processes or node were lost is run once more; what its own code does is not retried."""


@final
@dataclass(frozen=True, slots=True)
class Attempt:
    """A trial that may begin now."""

    request: TrialRequest
    number: int
    """1 for its first attempt."""


@final
class Attempts:
    """The trials of one call of `AbstractLauncher.run` that wait for an attempt, in the order in which they begin.

    Parameters
    ----------
    requests : sequence of TrialRequest
        In the order asked.
    progress : AbstractProgress
        Told of trials that are run once more.
    """

    def __init__(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> None:
        self._waiting = deque(Attempt(request, 1) for request in requests)
        self._lost: dict[str, TrialRecord] = {}
        self._over: list[TrialRecord] = []
        self._progress = progress

    @property
    def next(self) -> TrialRequest | None:
        """The trial that begins next; None where none waits."""
        return self._waiting[0].request if self._waiting else None

    def begin(self) -> Attempt | None:
        """Take the next one; None where it may not start any more, whose record `over` has then if it has one."""
        attempt = self._waiting.popleft()
        if attempt.request.may_start is None or attempt.request.may_start():
            return attempt
        self._give_up(attempt)
        return None

    def end(self, attempt: Attempt, record: TrialRecord) -> None:
        """Take how an attempt ended: it goes to the front once more, or its record to `over`."""
        if record.retryable and attempt.number < ATTEMPTS:
            self._progress.note(f"trial {record.trial_id}: {record.reason}; it is run once more")
            self._lost[record.trial_id] = record
            self._waiting.appendleft(Attempt(attempt.request, attempt.number + 1))
        else:
            self._over.append(record)

    def give_up(self) -> None:
        """Take the next one out, because there is no room for it any more."""
        self._give_up(self._waiting.popleft())

    def over(self) -> Iterator[TrialRecord]:
        """Yield each record of a trial that gets no further attempt, once."""
        while self._over:
            yield self._over.pop(0)

    def _give_up(self, attempt: Attempt) -> None:
        if attempt.number > 1:
            self._over.append(self._lost[attempt.request.spec.trial_id])


def look_at_task(build: Callable[[], TrialRecord | None], folder: Path) -> dict[str, Any]:
    """Return the facts that building the task finds, in as many attempts as a trial gets.

    Parameters
    ----------
    build : callable
        Has a process build the task, with its files in `folder`, and returns how it failed; None where it has left
        a result.
    folder : Path
        Where rank 0 leaves its outcome and its log.

    Raises
    ------
    TaskError
        When the task cannot be built.
    StudyError
        When the process is lost each time.
    """
    log = f"its log is {folder.resolve() / 'rank-0.log'}"
    reason: str | None = None
    for _ in range(ATTEMPTS):
        record = build()
        outcomes = read_outcomes(folder)
        error = misuse(outcomes)
        if error is not None:
            raise error
        if record is None:
            return dict(outcomes[0]["fields"])
        if not record.retryable:
            raise TaskError(f"the task cannot be built: {record.reason}", hint=log)
        reason = record.reason
    raise StudyError(
        f"the process that builds the task to look at it was lost {ATTEMPTS} times: {reason}",
        hint=f"{log}; the same command tries again",
    )
