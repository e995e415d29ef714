"""SLURM's commands: submit, list, cancel."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from lrscale.errors import LrscaleError
from lrscale.launch.slurm.states import ENDED

PATIENCE = 60.0
"""Seconds for one command; a controller under load has been seen to take that long."""
HABITS = ("SLURM_", "SQUEUE_", "SCANCEL_", "SACCT_")
"""Beginnings of variables that would change what the commands do."""
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")
"""Those that say which cluster is meant."""
PROGRAMS = ("sbatch", "squeue", "scancel")


@final
@dataclass(frozen=True, slots=True)
class Job:
    """A job as SLURM knows it."""

    job_id: str
    state: str
    """In SLURM's long form, such as ``"RUNNING"``."""
    reason: str = ""
    """Why it waits, where it does."""
    nodes: str = ""
    """Where it runs, where it does."""

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED


class RefusedError(Exception):
    """A command of SLURM failed; the text is what it printed."""


@final
class Cluster:
    """The cluster that this machine submits to."""

    def check(self) -> None:
        """Refuse to go on without SLURM's commands.

        Raises
        ------
        LrscaleError
            When one is not on the path.
        """
        absent = [name for name in PROGRAMS if shutil.which(name) is None]
        if absent:
            raise LrscaleError(
                f"the launcher slurm needs {', '.join(absent)} on the path",
                hint="run it on a login node of a SLURM cluster, or choose another --launcher",
            )

    def submit(self, options: Sequence[str], script: str) -> str:
        """Submit a job and return its number.

        Raises
        ------
        RefusedError
            When sbatch refuses it, or is not answered.
        """
        printed = _run(["sbatch", "--parsable", *options], script)
        # A number, and the cluster's name after a semicolon where there are several.
        number = printed.strip().splitlines()[-1].partition(";")[0] if printed.strip() else ""
        if not number.isdigit():
            raise RefusedError(f"sbatch printed no job number: {printed.strip()!r}")
        return number

    def try_out(self, options: Sequence[str], script: str) -> None:
        """Ask whether a job would be taken; none is submitted.

        Raises
        ------
        RefusedError
            When it would not, or sbatch is not answered.
        """
        _run(["sbatch", "--test-only", *options], script)

    def jobs(self, name: str) -> dict[str, Job] | None:
        """Return the user's jobs of a name, those included that ended a moment ago; None when SLURM does not answer."""
        user = str(os.getuid())
        try:
            printed = _run(
                [
                    *("squeue", "--noheader", f"--user={user}", f"--name={name}", "--states=all"),
                    "--format=%i|%T|%r|%N",
                ]
            )
        except RefusedError:
            return None
        return {job.job_id: job for line in printed.splitlines() if (job := _job(line)) is not None}

    def end_of(self, job_id: str) -> Job:
        """Return how a job ended that SLURM's queue has forgotten, as far as the accounting tells."""
        forgotten = Job(job_id, "GONE")
        if shutil.which("sacct") is None:
            return forgotten
        try:
            printed = _run(
                [
                    "sacct",
                    "--noheader",
                    "--parsable2",
                    "--allocations",
                    f"--jobs={job_id}",
                    "--format=JobID,State,NodeList",
                ]
            )
        except RefusedError:
            return forgotten
        for line in printed.splitlines():
            number, state, nodes = [*line.split("|"), "", ""][:3]
            # ``CANCELLED by 1000`` is one of its states.
            word = state.split(" ")[0].rstrip("+")
            if number == job_id and word in ENDED:
                return Job(job_id, word, nodes=nodes)
        return forgotten

    def cancel(self, job_ids: Sequence[str]) -> bool:
        """Cancel jobs; False when SLURM does not answer. One that has ended already is none the worse."""
        if not job_ids:
            return True
        try:
            _run(["scancel", *job_ids])
        except RefusedError:
            return False
        return True


def seconds_left(job_id: str) -> float | None:
    """Return the seconds until a running job's time limit, or None where it has none or nobody knows.

    Asked of SLURM as a span, because its clock and that of the node need not agree.
    """
    if shutil.which("squeue") is None:
        return None
    try:
        return span(_run(["squeue", "--noheader", f"--jobs={job_id}", "--format=%L"]).strip())
    except RefusedError:
        return None


def span(text: str) -> float | None:
    """Return a span as SLURM writes it, in seconds; None for what is no span.

    Examples
    --------
    >>> span("1-02:03:04"), span("4:57"), span("UNLIMITED")
    (93784.0, 297.0, None)
    """
    days, dash, rest = text.partition("-")
    parts = (rest if dash else text).split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()) or len(parts) > 3:
        return None
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(part)
    return float(seconds + (int(days) * 86400 if dash else 0))


def _job(line: str) -> Job | None:
    fields = line.strip().split("|")
    if len(fields) != 4 or not fields[0].isdigit():
        return None
    reason = fields[2].strip("()")
    # ``ReqNodeNotAvail, UnavailableNodes:n1`` says more than the word by which it is known.
    return Job(fields[0], fields[1], "" if reason == "None" else reason, fields[3])


def _run(command: Sequence[str], given: str | None = None) -> str:
    # Inside another job its own variables would be taken for wishes about this one.
    # And what squeue shows to a person, or scancel asks of one, is not what is asked here.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(HABITS) or key in KEPT}
    try:
        ended = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=kept,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RefusedError(f"{command[0]} timed out after {PATIENCE:.0f} s: Socket timed out") from error
    except OSError as error:
        raise RefusedError(f"{command[0]} cannot be run: {error.strerror}") from error
    if ended.returncode != 0:
        raise RefusedError((ended.stderr or ended.stdout).strip() or f"{command[0]} ended with {ended.returncode}")
    return ended.stdout
