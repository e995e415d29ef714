"""How a trial ends before its horizon."""

from __future__ import annotations

from typing import final


@final
class TrialStopped(Exception):
    """Raised on every rank at the same step when the trial has its answer.

    Parameters
    ----------
    status : {"diverged", "stopped"}
        Status of the record.
    reason : str
        Why, as a sentence.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
