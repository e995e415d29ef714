"""What is known about a running study: counts, the trials in flight, and how long the rest will take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, final

from lrscale.cli.text import count, number, seconds
from lrscale.store import Trial, TrialSpec
from lrscale.units import Layout

Outlook = Mapping[str, int | None]
"""The most trials of each experiment, in the order in which they run; None where that is unknown."""
NO_OUTLOOK: Outlook = MappingProxyType({})
NO_TASK: Mapping[str, Any] = MappingProxyType({})


@final
@dataclass(slots=True, kw_only=True)
class RunningTrial:
    """A trial in flight."""

    spec: TrialSpec
    layout: Layout
    started_at: float
    step: int = 0
    loss: float | None = None


@final
@dataclass(slots=True)
class _Tally:
    planned: int = 0
    reused: int = 0
    done: int = 0
    statuses: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@final
class ProgressBoard:
    """Follows the events of a study; both displays draw from it.

    Parameters
    ----------
    experiments : Outlook, optional
        Names of all experiments that will run, in order, each with the most trials that it may come to, finished ones
        included; None where that is unknown. Default: empty, and neither position nor total is shown.
    task : mapping, optional
        The study's task; trials of another version of it are named by what differs. Default: empty, and nothing is.
    clock : callable, optional
        Seconds, monotonic. Default ``time.monotonic``.
    """

    def __init__(
        self,
        experiments: Outlook = NO_OUTLOOK,
        *,
        task: Mapping[str, Any] = NO_TASK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.experiments = dict(experiments)
        self.task = task
        self.clock = clock
        self.began_at = clock()
        self.experiment = ""
        self.running: dict[str, RunningTrial] = {}
        self._tallies: dict[str, _Tally] = defaultdict(_Tally)
        self._durations: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._width = 1

    @property
    def elapsed(self) -> float:
        """Seconds since the board was made."""
        return self.clock() - self.began_at

    @property
    def planned(self) -> int:
        """Trials of the current experiment that had or have to run, over all its rounds."""
        return self._tallies[self.experiment].planned

    @property
    def done(self) -> int:
        """Trials of the current experiment that ended, whatever their status."""
        return self._tallies[self.experiment].done

    @property
    def reused(self) -> int:
        """Trials of the current experiment that were already there."""
        return self._tallies[self.experiment].reused

    def describe(self, spec: TrialSpec) -> str:
        """Name a trial by what was set, and by what its task has otherwise than the study's."""
        return describe(spec, self.task)

    def start(self, experiment: str, planned: int, reused: int) -> None:
        """Begin an experiment, or a further round of it.

        A further round counts what the rounds before it ran among its reused trials; those are not counted again.
        """
        self.experiment = experiment
        tally = self._tallies[experiment]
        tally.planned += planned
        tally.reused = max(tally.reused, reused - tally.done)

    def begin(self, spec: TrialSpec, layout: Layout) -> None:
        """Begin a trial."""
        self.running[spec.trial_id] = RunningTrial(spec=spec, layout=layout, started_at=self.clock())
        self._width = max(1, len(self.running))

    def advance(self, trial_id: str, step: int, loss: float | None) -> None:
        """Note how far a trial is; trials that were never begun are ignored."""
        trial = self.running.get(trial_id)
        if trial is not None:
            trial.step = step
            trial.loss = loss if loss is not None else trial.loss

    def end(self, trial: Trial) -> float | None:
        """End a trial and return its duration in seconds, None when nobody measured it."""
        started = self.running.pop(trial.trial_id, None)
        duration = trial.record.timing.get("total")
        if duration is None and started is not None:
            duration = self.clock() - started.started_at
        tally = self._tallies[self.experiment]
        tally.done += 1
        tally.statuses[trial.record.status] += 1
        # A trial that ended early says nothing about how long a whole one takes.
        if duration is not None and trial.record.status == "completed":
            self._durations[self.experiment, trial.spec.global_batch_size].append(duration)
        return duration

    def remaining(self) -> float | None:
        """Estimate the seconds until the current round is done, or None before anything is known.

        A trial is expected to take as long as the mean of the finished ones of its batch size in this experiment, else
        of this experiment, else of its batch size, else of all. Trials that wait are assumed to be like the youngest
        that runs, and to run as many at a time as now.
        """
        waiting = max(0, self.planned - self.done - len(self.running))
        left = 0.0
        batch_size: int | None = None
        # Copies, here and below: the thread that draws reads while the thread of the study writes.
        for trial in list(self.running.values()):
            batch_size = trial.spec.global_batch_size
            expected = self._expected(batch_size)
            elapsed = self.clock() - trial.started_at
            if expected is not None:
                left += max(0.0, expected - elapsed)
            elif trial.step > 0:
                left += elapsed * max(0, trial.spec.horizon - trial.step) / trial.step
            else:
                return None
        if waiting:
            each = self._expected(batch_size)
            if each is None:
                each = self._extrapolated()
            if each is None:
                return None
            left += waiting * each
        return left / max(1, self._width)

    def remaining_at_most(self) -> float | None:
        """Estimate the seconds until the study is done if every experiment needs the most trials, or None.

        A trial that is still to be decided on is taken to last as long as the mean of this experiment, else of all.
        """
        left, each = self.remaining(), self._expected(None)
        if left is None or each is None or self.experiment not in self.experiments:
            return None
        names = list(self.experiments)
        undecided = 0
        for name in names[names.index(self.experiment) :]:
            most, tally = self.experiments[name], self._tallies[name]
            if most is None:
                return None
            undecided += max(0, most - tally.planned - tally.reused)
        return left + undecided * each / max(1, self._width)

    def eta(self) -> str:
        """Return the time that is left, in words; empty before it is known and after the last trial of a round."""
        left, most = self.remaining(), self.remaining_at_most()
        if left is None or self.done >= self.planned:
            return ""
        if most is not None and most <= left:
            return f"{seconds(left)} left"
        round_ = f"{seconds(left)} left in this round"
        return round_ if most is None else f"{round_}, at most {seconds(most)} in all"

    def position(self) -> str:
        """Return the name of the experiment and where it stands among the others.

        Examples
        --------
        >>> board = ProgressBoard({"range_test": 3, "scaling": None})
        >>> board.start("scaling", 9, 0)
        >>> board.position()
        'scaling (2 of 2)'
        """
        if self.experiment not in self.experiments:
            return self.experiment
        return f"{self.experiment} ({list(self.experiments).index(self.experiment) + 1} of {len(self.experiments)})"

    def counts(self) -> str:
        """Return what is done of the current experiment, in words."""
        tally = self._tallies[self.experiment]
        text = f"{tally.done} of {count(tally.planned, 'trial')}"
        if tally.reused:
            text += f", {tally.reused} reused"
        for status, times in sorted(tally.statuses.items()):
            if status != "completed":
                text += f", {times} {status.replace('_', ' ')}"
        return text

    def _expected(self, batch_size: int | None) -> float | None:
        known = [
            (name == self.experiment, batch == batch_size, times)
            for (name, batch), times in list(self._durations.items())
        ]
        for pool in (
            [times for here, same, times in known if here and same],
            [times for here, _, times in known if here],
            [times for _, same, times in known if same],
            [times for _, _, times in known],
        ):
            flat = [duration for times in pool for duration in times]
            if flat:
                return sum(flat) / len(flat)
        return None

    def _extrapolated(self) -> float | None:
        whole = [
            (self.clock() - trial.started_at) * trial.spec.horizon / trial.step
            for trial in list(self.running.values())
            if trial.step > 0
        ]
        return sum(whole) / len(whole) if whole else None


def describe(spec: TrialSpec, task: Mapping[str, Any] = NO_TASK) -> str:
    """Name a trial by what was set.

    Parameters
    ----------
    spec : TrialSpec
    task : mapping, optional
        The study's task, which a trial of another version of it differs from. Default: empty; nothing is said of that.

    Examples
    --------
    >>> from lrscale.store import ScheduleSpec
    >>> spec = TrialSpec(task={}, schedule=ScheduleSpec(name="cosine"), peak_lr=0.0032, global_batch_size=64,
    ...                  horizon=100, seed=1)
    >>> describe(spec)
    'batch 64, LR 3.2e-3, cosine, seed 1'
    """
    other = "".join(f"{name} {value}, " for name, value in _differences(spec.task, task)) if task else ""
    return f"{other}{_setting(spec)}"


def _differences(task: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a task that differ from those of another, by the last part of their paths."""
    for name, value in task.items():
        other = base.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from _differences(value, other)
        elif value != other:
            yield name, value


def _setting(spec: TrialSpec) -> str:
    if spec.schedule.name == "ramp":
        return f"batch {spec.global_batch_size}, LR ramp to {number(spec.peak_lr)}, seed {spec.seed}"
    grown = "" if spec.batch_schedule is None else f", batch {spec.batch_schedule.label}"
    since = "" if spec.branch is None else f", from step {spec.branch.position:,} of trial {spec.branch.trial_id}"
    own = f"batch {spec.global_batch_size}, LR {number(spec.peak_lr)}, {spec.label}"
    return f"{own}{grown}, seed {spec.seed}{since}"


def outcome(trial: Trial) -> str:
    """Name how a trial ended: its loss, or the status and the reason."""
    record = trial.record
    if record.status == "completed":
        return f"{record.monitor or 'loss'} {number(record.final_loss, 4)}"
    status = record.status.replace("_", " ")
    if not record.reason:
        return status
    reason = first_line(record.reason)
    return reason if reason.startswith(f"{status} ") else f"{status}: {reason}"


def first_line(text: str) -> str:
    """Return the first line of a message, at most 160 characters of it."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= 160 else line[:157] + "..."
