"""The part of ``lrscale status`` about SLURM jobs: which trials wait, which are at work where, which are lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

from lrscale.cli.text import count

if TYPE_CHECKING:
    from lrscale.launch.slurm import AtWork, QueueOverview

STATES = ("running", "queued", "done, to be collected")
"""What a trial without a record can be besides lost."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class JobsStatus:
    """What the queue of a study tells; empty where there is none."""

    states: Mapping[str, str] = field(default_factory=dict)
    """One of `STATES` or ``"lost"``, by trial id."""
    at_work: Mapping[str, AtWork] = field(default_factory=dict)
    """Trials that a worker has, by id."""
    heading: str | None = None
    """What the study is doing; None where the queue does not tell."""
    driver: str | None = None
    """The process that runs the study, wherever it is."""
    lines: Sequence[str] = ()
    """Sentences about the jobs."""

    @classmethod
    def of(cls, path: Path) -> JobsStatus:
        """Read the queue of a study folder."""
        from lrscale.launch.slurm import queue_overview

        seen = queue_overview(path)
        if seen is None:
            return cls()
        states = dict.fromkeys(seen.queued, "queued")
        states |= {one.trial_id: "lost" if one.lost else "running" for one in seen.at_work}
        states |= dict.fromkeys(seen.uncollected, "done, to be collected")
        return cls(
            states=states,
            at_work={one.trial_id: one for one in seen.at_work},
            heading=_heading(seen),
            driver=seen.driver,
            lines=_lines(seen),
        )


def _heading(seen: QueueOverview) -> str | None:
    if seen.driver is not None:
        return f"running, by {seen.driver}"
    alive = sorted({one.worker for one in seen.at_work if not one.lost})
    return f"no process runs it, {count(len(alive), 'worker')} at work" if alive else None


def _lines(seen: QueueOverview) -> list[str]:
    lines = []
    for job in seen.jobs or ():
        where = f" on {job.nodes}" if job.nodes else ""
        reason = f" ({job.reason})" if job.reason and job.state == "PENDING" else ""
        lines.append(f"job {job.job_id}: {job.state.lower().replace('_', ' ')}{where}{reason}")
    if seen.driver is None and (seen.jobs or seen.uncollected or seen.at_work):
        lines.append("Run the study again to collect what jobs have done; no job is submitted twice.")
    return lines
