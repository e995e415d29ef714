"""From what the ranks left behind to the record of a trial."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrscale.errors import TaskError
from lrscale.store import TrialRecord
from lrscale.units import Layout

TAIL_LINES = 15
"""Log lines kept in the record of a failed trial."""


def read_outcomes(folder: Path) -> dict[int, dict[str, Any]]:
    """Return what each rank wrote before it ended, by rank; a rank that was killed wrote nothing."""
    found = {}
    for path in folder.glob("outcome-*.json"):
        found[int(path.stem.removeprefix("outcome-"))] = json.loads(path.read_text(encoding="utf-8"))
    return found


def task_error(outcomes: Mapping[int, Mapping[str, Any]]) -> TaskError | None:
    """Return the misuse that a rank met while it built the task, or None."""
    for outcome in outcomes.values():
        if outcome["kind"] == "task_error":
            return TaskError(outcome["message"], hint=outcome.get("hint"))
    return None


def make_record(
    trial_id: str,
    folder: Path,
    layout: Layout,
    codes: Mapping[int, int],
    *,
    seconds: float,
    timed_out: bool,
) -> TrialRecord:
    """Judge a trial by the result that its ranks published, then by how they ended.

    Parameters
    ----------
    trial_id : str
        The trial.
    folder : Path
        Its folder.
    layout : Layout
        Where it ran.
    codes : mapping of int to int
        Exit code by rank; negative for a signal.
    seconds : float
        Wall-clock time seen by the driver.
    timed_out : bool
        Whether the driver ended it for its time.
    """
    outcomes = read_outcomes(folder)
    if 0 in outcomes and outcomes[0]["kind"] == "result":
        fields = dict(outcomes[0]["fields"])
        fields["timing"] = {**fields.get("timing", {}), "total": seconds}
        fields["warnings"] = tuple(fields.get("warnings", ()))
        return TrialRecord(trial_id=trial_id, layout=layout, **fields)
    failures = [(outcome["at"], rank, outcome) for rank, outcome in outcomes.items() if outcome["kind"] == "failure"]
    if failures and not timed_out:
        # The first to fail is the cause; the others see their peer's connection close.
        _, rank, first = min(failures, key=lambda failure: failure[:2])
        fields = dict(first["fields"])
        fields["timing"] = {**fields.get("timing", {}), "total": seconds}
        fields["warnings"] = tuple(fields.get("warnings", ()))
        return TrialRecord(trial_id=trial_id, layout=layout, log_tail=log_tail(folder, rank), **fields)
    if timed_out:
        return TrialRecord(
            trial_id=trial_id,
            status="timed_out",
            reason=f"still running after {seconds:.0f} s, the limit of layout.timeout",
            layout=layout,
            timing={"total": seconds},
            log_tail=log_tail(folder, 0),
        )
    rank, code = _first_lost(codes)
    return TrialRecord(
        trial_id=trial_id,
        status="crashed",
        reason=f"rank {rank} {_how_it_ended(code)} without leaving a result",
        layout=layout,
        timing={"total": seconds},
        retryable=True,
        log_tail=log_tail(folder, rank),
    )


def log_tail(folder: Path, rank: int) -> tuple[str, ...]:
    """Return the last lines that a rank printed."""
    path = folder / f"rank-{rank}.log"
    if not path.exists():
        return ()
    return tuple(path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-TAIL_LINES:])


def _first_lost(codes: Mapping[int, int]) -> tuple[int, int]:
    # The driver itself ends the survivors with SIGKILL, so any other end tells more.
    ended = sorted(codes.items(), key=lambda item: (item[1] == 0, item[0]))
    return ended[0] if ended else (0, 1)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
