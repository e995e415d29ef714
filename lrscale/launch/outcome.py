"""From what the ranks left behind to the record of a trial."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lrscale.errors import LrscaleError, StudyError, TaskError
from lrscale.store import TrialRecord
from lrscale.units import Layout

TAIL_LINES = 15
"""Log lines kept in the record of a failed trial."""
TAIL_BYTES = 1 << 16
"""Looked at to find them."""
LINE_LENGTH = 400
"""Characters kept of each."""
STACK_MARK = "(most recent call first):"
"""Last words of the line above a stack that Python's faulthandler has written."""
STACK_LINES = 6
"""Innermost calls kept of each rank of a trial that was out of time."""
STACK_RANKS = 4
"""Ranks whose calls are kept."""

LATENCY = 60.0
"""Seconds after which NFS shows here at the latest what another machine has written (acdirmax in nfs(5))."""
LOOK_AGAIN = 0.5
"""Seconds between looks at it."""

_PEER_LOST = (
    "closed by peer",
    "reset by peer",
    "broken pipe",
    "connection refused",
    "pair closure",
    "remote process exited",
    "ncclremoteerror",
    "communicator was aborted",
)
"""Words of the errors that gloo and NCCL raise in the ranks left over when one is gone: not the cause of a failure."""
_NO_SPACE = ("[errno 28]", "[errno 122]", "[errno 27]", "no space left on device")
"""Disk full, over quota, file over the size limit: the machine's fault, so no outcome of a trial."""


def read_outcomes(folder: Path) -> dict[int, dict[str, Any]]:
    """Return what each rank wrote before it ended, by rank; a rank that was killed wrote nothing."""
    found = {}
    for path in folder.glob("outcome-*.json"):
        rank = path.stem.removeprefix("outcome-")
        try:
            outcome = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # As good as none: the rank is then judged by how it ended.
            continue
        if rank.isdigit() and isinstance(outcome, dict) and "kind" in outcome:
            found[int(rank)] = {"at": path.stat().st_mtime, **outcome}
    return found


def see_anew(folder: Path) -> None:
    """Look again at a folder into which another machine has written.

    An NFS client remembers for a while what is in a folder and what is not. By a change of its own it learns that the
    folder is not as it remembers it.
    """
    probe = folder / f".look-{os.getpid()}"
    with suppress(OSError):
        probe.touch()
        probe.unlink()


def await_outcomes(folder: Path, ranks: Collection[int]) -> None:
    """Wait until the outcomes of ranks that ended well on another machine can be read here, at most a minute."""
    deadline = time.monotonic() + LATENCY
    while True:
        see_anew(folder)
        if set(ranks) <= read_outcomes(folder).keys() or time.monotonic() > deadline:
            return
        time.sleep(LOOK_AGAIN)


def has_result(folder: Path) -> bool:
    """Whether rank 0 has left a result, of whatever kind."""
    outcome = read_outcomes(folder).get(0)
    return outcome is not None and outcome["kind"] == "result"


def completed(folder: Path, rank: int) -> bool:
    """Whether a rank has left a result, and a good one."""
    outcome = read_outcomes(folder).get(rank)
    return (
        outcome is not None and outcome["kind"] == "result" and outcome["fields"].get("status") in (None, "completed")
    )


def misuse(outcomes: Mapping[int, Mapping[str, Any]]) -> LrscaleError | None:
    """Return the error that ends the study: a task that cannot be built, or a full disk; None where there is none."""
    for outcome in outcomes.values():
        if outcome["kind"] == "task_error":
            return TaskError(outcome["message"], hint=outcome.get("hint"))
        reason = str(outcome.get("fields", {}).get("reason") or "")
        if outcome["kind"] == "failure" and any(words in reason.lower() for words in _NO_SPACE):
            return StudyError(f"a trial could not write its files: {reason}", hint="free space, then run it again")
    return None


def make_record(
    trial_id: str,
    folder: Path,
    layout: Layout,
    codes: Mapping[int, int],
    *,
    seconds: float,
    timed_out: bool,
    lost_node: str | None = None,
) -> TrialRecord:
    """Judge a trial by what its ranks published, then by how they ended.

    The result of rank 0 counts whatever came after it. Otherwise the cause is sought: a node that was lost with its
    ranks, whatever the others say then, which is worth another attempt; else the first rank whose own error or outcome
    ended the trial; else the first rank that ended without a word, which is worth another attempt too; else ranks that
    lost each other.

    Parameters
    ----------
    trial_id : str
        The trial.
    folder : Path
        Its folder.
    layout : Layout
        Where it ran.
    codes : mapping of int to int
        Exit code by rank, in the order of ending; negative for a signal.
    seconds : float
        Wall-clock time seen by the driver.
    timed_out : bool
        Whether the driver ended it for its time.
    lost_node : str or None, optional
        Name of a node that was lost while ranks of the trial were on it. Default None.
    """
    outcomes = read_outcomes(folder)
    if 0 in outcomes and outcomes[0]["kind"] == "result":
        return _published(trial_id, layout, outcomes[0]["fields"], seconds)
    if lost_node is not None:
        return TrialRecord(
            trial_id=trial_id,
            status="crashed",
            reason=f"{lost_node} was lost while the trial ran on it",
            layout=layout,
            timing={"total": seconds},
            retryable=True,
            log_tail=log_tail(folder, 0),
        )
    causes, peers_lost = [], []
    for rank, outcome in sorted(outcomes.items(), key=lambda item: (item[1]["at"], item[0])):
        fields = outcome.get("fields", {})
        reason = str(fields.get("reason") or "").lower()
        if outcome["kind"] == "failure" and any(words in reason for words in _PEER_LOST):
            peers_lost.append(rank)
        elif fields.get("status", "completed") != "completed":
            causes.append(rank)
    if causes:
        tail = log_tail(folder, causes[0])
        return _published(trial_id, layout, outcomes[causes[0]]["fields"], seconds, log_tail=tail)
    if timed_out:
        return TrialRecord(
            trial_id=trial_id,
            status="timed_out",
            reason=f"still running after {seconds:.0f} s, the limit of layout.timeout",
            layout=layout,
            timing={"total": seconds},
            log_tail=stacks(folder, layout.world_size) or log_tail(folder, 0),
        )
    silent = [rank for rank, code in codes.items() if rank not in outcomes and code != 0]
    if not silent and peers_lost:
        tail = log_tail(folder, peers_lost[0])
        fields = {**outcomes[peers_lost[0]]["fields"], "retryable": True}
        return _published(trial_id, layout, fields, seconds, log_tail=tail)
    rank = (silent or [rank for rank in codes if rank not in outcomes] or [0])[0]
    return TrialRecord(
        trial_id=trial_id,
        status="crashed",
        reason=f"rank {rank} {_how_it_ended(codes.get(rank, 1))} without leaving a result",
        layout=layout,
        timing={"total": seconds},
        retryable=True,
        log_tail=log_tail(folder, rank),
    )


def log_tail(folder: Path, rank: int) -> tuple[str, ...]:
    """Return the last lines that a rank printed; of a stack that it wrote last, the innermost calls."""
    lines = _last_lines(folder / f"rank-{rank}.log")
    return tuple(line[:LINE_LENGTH] for line in (_last_stack(lines) or lines[-TAIL_LINES:])[:TAIL_LINES])


def stacks(folder: Path, world_size: int) -> tuple[str, ...]:
    """Return where each rank was when it was asked, innermost call first; empty when none has answered."""
    found: list[str] = []
    for rank in range(min(world_size, STACK_RANKS)):
        stack = _last_stack(_last_lines(folder / f"rank-{rank}.log"))
        if stack:
            found += [f"rank {rank}:", *(line[:LINE_LENGTH] for line in stack[1 : 1 + STACK_LINES])]
    return tuple(found)


def _published(
    trial_id: str, layout: Layout, fields: Mapping[str, Any], seconds: float, log_tail: tuple[str, ...] = ()
) -> TrialRecord:
    values = {
        **fields,
        "timing": {**fields.get("timing", {}), "total": seconds},
        "warnings": tuple(fields.get("warnings", ())),
    }
    return TrialRecord(trial_id=trial_id, layout=layout, log_tail=log_tail, **values)


def _last_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.strip().splitlines()]


def _last_stack(lines: list[str]) -> list[str]:
    # Threads are listed from the newest to the oldest, so the last stack is the main thread's.
    marks = [number for number, line in enumerate(lines) if line.endswith(STACK_MARK)]
    if not marks:
        return []
    stack = lines[marks[-1] :]
    rest = [line for line in stack[1:] if line and not line.startswith("Extension modules:")]
    # Something else printed after it is newer than the stack, and then the plain tail says more.
    return [stack[0], *rest] if all(line.startswith("  File ") for line in rest) else []


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"was ended by signal {-code}"
    hint = ", as the kernel does when memory runs out," if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
