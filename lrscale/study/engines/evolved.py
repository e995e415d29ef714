"""The schedule that a population evolved, and what it is worth from a fresh start."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any, final

from typing_extensions import override

from lrscale.store import ScheduleSpec, Trial, TrialSpec
from lrscale.study.engines.base import AbstractOwnAnswer
from lrscale.study.experiments.base import AbstractExperiment, Context
from lrscale.study.finding import Check, Finding
from lrscale.study.search.setup import Setup
from lrscale.study.words import number

CALLED = "evolved"
"""What the schedule is called where people read."""


OTHERS = ("constant", "cosine", "wsd")
"""Schedules that it is first compared with."""


@final
class Evolved(AbstractOwnAnswer):
    """The course of the best member of a population, as a schedule, with its replays.

    Parameters
    ----------
    context : Context
        The study.
    kept : mapping or None
        What the evolution came to; None while it has not ended.
    method : str
        How it went, for the report.
    """

    def __init__(self, context: Context, kept: Mapping[str, Any] | None, method: str) -> None:
        self._context = context
        self._setup = Setup.of(context.recipe)
        self._kept = kept or {}
        self._method = method

    @property
    def course(self) -> list[dict[str, Any]]:
        """Segments of the best member; empty where none came to the end."""
        return list(self._kept.get("course", ()))

    @property
    def points(self) -> list[list[float]]:
        """The schedule, as share of the horizon and factor of the peak, from each share on."""
        return schedule_points(self.course)

    @override
    def plan(self) -> list[TrialSpec]:
        sizes = {segment["batch_size"] for segment in self.course}
        if len(sizes) != 1:
            # A schedule of batch sizes cannot be replayed by one trial.
            return []
        (size,) = sizes
        peak = max(segment["lr"] for segment in self.course)
        settings = {"points": self.points, "called": CALLED}
        schedule = ScheduleSpec(name="piecewise", settings=settings)
        # The first seeds trained the segments.
        seeds = range(self._setup.validations, self._setup.validations + self._setup.fresh_seeds)
        fresh = [self._setup.spec(self._context, peak, size, seed) for seed in seeds]
        return [dataclasses.replace(spec, schedule=schedule) for spec in fresh]

    @override
    def finding(self, experiment: AbstractExperiment) -> Finding:
        replays = self._context.finished(self.plan())
        losses = [trial.record.final_loss for trial in replays if trial.record.final_loss is not None]
        segments = tuple(self._rows())
        return Finding(
            key=experiment.key,
            title=experiment.title,
            # It names a schedule, and no setting that a recommendation could take over.
            status="cannot_tell",
            sentence=self._sentence(losses),
            tables={"segments": segments, "replays": tuple(_replay_row(trial) for trial in replays)},
            checks=tuple(self._checks(losses)),
            data={
                "engine": {"name": "ray", "title": "Ray Tune", "method": self._method},
                "evolved": {
                    "schedule": {"name": "piecewise", "settings": {"points": self.points, "called": CALLED}},
                    "peak_lr": max((segment["lr"] for segment in self.course), default=None),
                    "segments": list(segments),
                },
            },
            trial_ids=tuple([*self._kept.get("trials", ()), *(trial.trial_id for trial in replays)]),
        )

    def _comparison(self, points: str) -> str:
        """Return the entry of a recipe that asks for the comparison of the schedule with others."""
        own = f"{{name: piecewise, settings: {{points: [{points}], called: {CALLED}}}}}"
        listed = ", ".join((*OTHERS, own))
        size, horizon = self.course[0]["batch_size"], self._setup.horizon
        return f"experiments.schedules={{schedules: [{listed}], batch_size: {size}, horizon: {horizon}}}"

    def _rows(self) -> list[dict[str, Any]]:
        rows, begun = [], 0
        for segment in self.course:
            row = {name: segment[name] for name in ("lr", "batch_size", "examples", "loss")}
            rows.append({"from": begun, **row})
            begun += segment["examples"]
        return rows

    def _sentence(self, losses: list[float]) -> str:
        course = self.course
        if not self._kept:
            return "Cannot tell: the population has not come to its end."
        if not course:
            return "Cannot tell: no member of the population came to its end with a loss; lower learning_rates."
        peak = max(segment["lr"] for segment in course)
        lowest = min(segment["lr"] for segment in course)
        told = (
            f"A population of {self._kept['members']} found a schedule of {len(course)} segments with LRs from "
            f"{number(lowest)} to {number(peak)}: its best member ended at loss {number(course[-1]['loss'], 4)}"
        )
        if not losses:
            return f"{told}; it was not trained again."
        mean = statistics.fmean(losses)
        return (
            f"{told}, and the same schedule from a fresh start gives {number(mean, 4)} (mean of {len(losses)} seeds)."
        )

    def _checks(self, losses: list[float]) -> list[Check]:
        course, found = self.course, []
        if len({segment["batch_size"] for segment in course}) > 1:
            found.append(
                Check(
                    name="search replay",
                    status="WARNING",
                    sentence="The best member changed its batch size on the way, which no single trial replays.",
                    remedy="give experiments.search.batch_sizes one size",
                )
            )
        elif course:
            text = ", ".join(f"[{share:g}, {factor:g}]" for share, factor in self.points)
            found.append(
                Check(
                    name="search replay",
                    status="INFO",
                    sentence=f"As a schedule: piecewise, points [{text}].",
                    remedy="compare it with others at equal examples, each at its own best LR: "
                    f"lrscale schedules RECIPE --set '{self._comparison(text)}'",
                )
            )
        if losses and course and course[-1]["loss"] is not None:
            lost = statistics.fmean(losses) - course[-1]["loss"]
            if lost > 0:
                sentence = (
                    f"From a fresh start the schedule ends {number(lost)} above the member that was chosen for it."
                )
                found.append(Check(name="search optimism", status="INFO", sentence=sentence))
        return found


def schedule_points(course: list[dict[str, Any]]) -> list[list[float]]:
    """Return a member's course as points of the schedule `piecewise`.

    Parameters
    ----------
    course : list of dict
        Segments, each with ``lr`` and ``examples``.

    Returns
    -------
    list of [share, factor]
        Share of the horizon from which on a factor of the peak holds; the largest factor is 1.

    Examples
    --------
    >>> schedule_points([{"lr": 1e-3, "examples": 300}, {"lr": 2e-3, "examples": 300}, {"lr": 2e-3, "examples": 600}])
    [[0.0, 0.5], [0.25, 1.0]]
    """
    total, peak = sum(one["examples"] for one in course), max((one["lr"] for one in course), default=1.0)
    points: list[list[float]] = []
    begun = 0
    for one in course:
        factor = float(f"{one['lr'] / peak:.6g}")
        if not points or points[-1][1] != factor:
            points.append([float(f"{begun / total:.6g}"), factor])
        begun += one["examples"]
    return points


def _replay_row(trial: Trial) -> dict[str, Any]:
    return {"seed": trial.spec.seed, "loss": trial.record.final_loss, "status": trial.record.status}
