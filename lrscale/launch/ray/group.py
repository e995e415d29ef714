"""One trial on a Ray cluster, from its start to its record."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from lrscale.errors import StudyError
from lrscale.launch.outcome import make_record, misuse, read_outcomes
from lrscale.store import TrialRecord
from lrscale.units import Layout

ENTRY = "lrscale.training.ray_group"
"""Module whose ``run_group`` supervises the ranks, in a process of the cluster: the driver loads no torch."""
STOPPING = 20.0
"""Seconds that Ray Train gets to end the ranks before the process that supervises them is killed, and they with it."""
LOST = 1
"""Code of a rank that told none."""


@final
class RayGroup:
    """The ranks of one job, supervised by a task on this machine's node.

    Parameters
    ----------
    group : mapping
        What `lrscale.training.ray_group.run_group` takes.
    limit : float or None
        Seconds after which the ranks are ended, counted from when the first of them has begun.
    """

    def __init__(self, group: Mapping[str, Any], limit: float | None) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.folder = Path(group["folder"])
        self.submitted = time.monotonic()
        self.timed_out = False
        self._limit = limit
        self._begun: float | None = None
        self._ended: dict[str, Any] | None = None
        here = ray.get_runtime_context().get_node_id()
        supervise = ray.remote(_supervise).options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
            runtime_env={"env_vars": dict(group["environment"])} if group["environment"] else None,
        )
        self.ref: Any = supervise.remote(dict(group))

    @property
    def seconds(self) -> float:
        """Seconds since it was submitted."""
        return time.monotonic() - self.submitted

    def watch(self) -> None:
        """End the group when its time is up."""
        now = time.monotonic()
        if self._begun is None and (self.folder / "rank-0.log").exists():
            self._begun = now
        if self._limit is not None and self._begun is not None and now - self._begun > self._limit:
            self.timed_out = True
            self.kill()

    def kill(self) -> None:
        """End the ranks and wait until they are gone."""
        import ray

        ray.cancel(self.ref, force=False)
        if not ray.wait([self.ref], timeout=STOPPING)[0]:
            ray.cancel(self.ref, force=True)
            ray.wait([self.ref], timeout=STOPPING)

    def how_it_ended(self) -> dict[str, Any]:
        """Return what `run_group` returned, or the like where the supervisor itself was lost or ended."""
        import ray

        if self._ended is None:
            try:
                self._ended = ray.get(self.ref)
            except ray.exceptions.RayError as error:
                self._ended = {"codes": {}, "lost": {"": f"{type(error).__name__}: {error}"}, "unseen": None}
        return self._ended

    def record(self, trial_id: str, layout: Layout) -> TrialRecord:
        """Return the record of a group that has ended.

        Raises
        ------
        TaskError, StudyError
            When no other trial could be trained either.
        """
        ended, outcomes = self.how_it_ended(), read_outcomes(self.folder)
        error = misuse(outcomes)
        if error is not None:
            raise error
        if ended["unseen"] is not None:
            raise StudyError(
                f"node {ended['unseen']} does not see the study folder: {self.folder} has no job there",
                hint="put it, with --study, on a file system that all nodes mount at the same path",
            )
        lost = {int(rank): words for rank, words in ended["lost"].items() if rank}
        codes = {int(rank): code for rank, code in ended["codes"].items()} | dict.fromkeys(lost, LOST)
        record = make_record(trial_id, self.folder, layout, codes, seconds=self.seconds, timed_out=self.timed_out)
        silent = [rank for rank in lost if rank not in outcomes]
        if record.status != "crashed" or not record.retryable:
            return record
        if silent:
            return dataclasses.replace(record, reason=f"rank {silent[0]} was lost: {lost[silent[0]]}")
        if "" in ended["lost"] and not outcomes:
            return dataclasses.replace(record, reason=f"Ray lost the trial: {one_line(ended['lost'][''])}")
        return record


def one_line(text: str, most: int = 300) -> str:
    """Return what Ray says over many lines as one, cut to `most` characters."""
    return " ".join(text.split())[:most]


def _supervise(group: Mapping[str, Any]) -> dict[str, Any]:
    ended: dict[str, Any] = importlib.import_module(ENTRY).run_group(group)
    return ended
