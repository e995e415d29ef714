"""Runs an experiment in rounds: what is missing, then what its results ask for, until nothing is."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

from lrscale.errors import LrscaleError, TrialsFailedError
from lrscale.launch import AbstractLauncher, TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.store import StudyFolder, Trial, TrialRecord, TrialSpec
from lrscale.study.branch_states import BranchStates
from lrscale.study.budget.keeper import Keeper
from lrscale.study.cost import CostModel
from lrscale.study.driven import DRIVEN
from lrscale.study.experiments import AbstractExperiment, Context
from lrscale.study.finding import Finding
from lrscale.study.layouts.memory_search import largest_that_fits
from lrscale.study.lost import counted
from lrscale.study.specs import riding_instruments, trial_layout
from lrscale.study.trial_logs import TrialLogs

MOST_ROUNDS = 200
"""An experiment asks for trials in rounds; one that never ends is a mistake in it."""

KEEP_TIME_EVERY = 1.0
"""Seconds between two writings of the time spent; as much of it can be lost in a kill."""


def now() -> str:
    """Return the time as it stands in a plan."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@final
class Rounds:
    """The rounds of one run of a study.

    Parameters
    ----------
    folder : StudyFolder
        Its lock is held.
    plan : dict
        The study's plan, to which decisions are appended.
    trials : dict of str to Trial
        The finished ones, by trial id; what runs is added to them, and so seen by every view of them.
    launcher : AbstractLauncher
        Where trials run.
    progress : AbstractProgress
        Told what happens.
    keeper : Keeper
        Says what may run.
    logs : TrialLogs
        Told of what has run.
    """

    def __init__(
        self,
        folder: StudyFolder,
        plan: dict[str, Any],
        trials: dict[str, Trial],
        launcher: AbstractLauncher,
        progress: AbstractProgress,
        keeper: Keeper,
        logs: TrialLogs,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._trials = trials
        self._launcher = launcher
        self._progress = progress
        self._keeper = keeper
        self._logs = logs
        self._states = BranchStates(folder)
        self._kept_at = -math.inf
        self.ran: set[str] = set()
        """Trials that ran in this run."""

    def run(
        self, experiment: AbstractExperiment, later: Sequence[AbstractExperiment], findings: Mapping[str, Finding]
    ) -> Context:
        """Run what is missing of an experiment, as far as the budget goes, and return what it may look at then.

        Parameters
        ----------
        experiment : AbstractExperiment
        later : sequence of AbstractExperiment
            Those after it, for which the budget keeps their share.
        findings : mapping
            Usable findings of those before it.

        Raises
        ------
        TrialsFailedError
            When all trials of a round crashed.
        """
        ran: set[str] = set()
        for round_number in range(MOST_ROUNDS):
            context = self._keeper.context(experiment, later, findings)
            for note in self._keeper.news():
                self._progress.note(note)
            ran |= {trial.trial_id for trial in self._drive(experiment, context)}
            wanted = {spec.trial_id: spec for spec in experiment.plan(context)}
            missing = [
                spec
                for trial_id, spec in wanted.items()
                if trial_id not in self._trials or (self._trials[trial_id].record.retryable and trial_id not in ran)
            ]
            # Others wait for those that an earlier run has lost.
            missing.sort(key=lambda spec: spec.trial_id not in self._trials)
            ready = self._states.runnable(missing, wanted, self._trials)
            chosen = ready[: self._keeper.affordable(experiment, ready, context)]
            if round_number == 0 or chosen:
                self._progress.started(experiment.key, len(chosen), len(wanted) - len(missing))
            finished = self._launch(experiment, chosen, wanted, context) if chosen else []
            ran |= {trial.trial_id for trial in finished}
            self.ran |= ran
            if ready and not finished:
                self._keeper.keep_out(experiment, missing, context)
                self._decide(experiment, kept_out=[spec.trial_id for spec in missing])
            if finished:
                self._states.drop(wanted, self._trials, stays=partial(experiment.returns_to, wanted=wanted.values()))
            else:
                self._states.drop(wanted, self._trials)
            if not finished:
                return context
            crashed = all(trial.record.status == "crashed" for trial in finished)
            if crashed and not experiment.survives_crashes(context) and not self._waits_for(experiment, finished):
                raise self._all_crashed(experiment, finished)
        raise LrscaleError(f"experiment {experiment.key} still asks for trials after {MOST_ROUNDS} rounds")

    def _waits_for(self, experiment: AbstractExperiment, finished: Sequence[Trial]) -> bool:
        """Whether trials were all lost on a machine that has carried others, so that another run can bring them."""
        if not experiment.waits_for_lost or not all(trial.record.retryable for trial in finished):
            return False
        return any(trial.record.status != "crashed" for trial in self._trials.values())

    def _all_crashed(self, experiment: AbstractExperiment, finished: Sequence[Trial]) -> TrialsFailedError:
        record = finished[0].record
        tail = "\n  ".join(record.log_tail)
        which = "the only trial" if len(finished) == 1 else f"all {len(finished)} trials"
        again = "; the same command tries again" if record.retryable else ""
        return TrialsFailedError(
            f"{which} of {experiment.key} crashed: {record.reason}" + (f"\n  {tail}" if tail else ""),
            hint=f"its logs are in {self._folder.trial_path(record.trial_id)}{again}",
        )

    def _launch(
        self,
        experiment: AbstractExperiment,
        chosen: Sequence[TrialSpec],
        wanted: Mapping[str, TrialSpec],
        context: Context,
    ) -> list[Trial]:
        self._decide(experiment, trials=[spec.trial_id for spec in chosen])
        specs = {spec.trial_id: spec for spec in chosen}
        finished = []
        prices = context.price_list()
        requests = [self._request(spec, wanted, context, prices) for spec in chosen]
        try:
            with self._logs.held(any(spec.layout is not None for spec in chosen)):
                for record in self._launcher.run(requests, self._progress):
                    finished.append(self._take(experiment, specs[record.trial_id], record))
        finally:
            for trial_id in specs.keys() - {trial.trial_id for trial in finished}:
                self._folder.withdraw_trial(trial_id)
        return finished

    def _drive(self, experiment: AbstractExperiment, context: Context) -> list[Trial]:
        """Let an experiment run trials by its own means, where it does and has not yet, as far as the budget goes."""
        driver = experiment.driver(context)
        if driver is None:
            return []
        specs = driver.specs()
        most = self._keeper.affordable(experiment, specs, context)
        if most == 0:
            self._keeper.keep_out(experiment, specs, context)
            return []
        self._progress.started(experiment.key, most, 0)
        finished: list[Trial] = []
        kept = driver.run(
            self._launcher,
            self._folder,
            self._progress,
            lambda spec, record: finished.append(self._take(experiment, spec, record)),
            most,
        )
        self._plan["facts"].setdefault(DRIVEN, {})[driver.key] = kept
        self._decide(experiment, trials=kept["trials"])
        return finished

    def _take(self, experiment: AbstractExperiment, spec: TrialSpec, record: TrialRecord) -> Trial:
        before = self._trials.get(spec.trial_id)
        if before is not None and not before.record.retryable and record.status != before.record.status:
            # It ran for its states alone, and has lost nothing of its answer where that failed.
            record = before.record
        record = counted(record, self._plan)
        if record.runs_lost:
            # The count is on the disk before the record is, and outlives it.
            self._folder.write_plan(self._plan)
        self._folder.finish_trial(record)
        trial = Trial(spec, record)
        self._trials[record.trial_id] = trial
        self.ran.add(record.trial_id)
        self._keeper.ended(record.trial_id)
        self._keep_time()
        self._progress.trial_finished(trial)
        self._logs.add(trial, experiment.key)
        return trial

    def _request(
        self, spec: TrialSpec, wanted: Mapping[str, TrialSpec], context: Context, prices: CostModel
    ) -> TrialRequest:
        cost = prices.cost(spec)
        keep = self._states.positions(spec, wanted.values(), self._trials)
        return TrialRequest(
            spec=spec,
            layout=trial_layout(context.recipe, spec, largest_that_fits(context.findings)),
            folder=self._folder.begin_trial(spec, again=self._states.is_again(spec, self._trials)),
            keep=keep,
            instruments=riding_instruments(context.recipe, spec),
            seconds=cost.seconds,
            may_start=partial(self._keeper.starts, spec.trial_id, cost if context.budget.bounded else None),
        )

    def _keep_time(self) -> None:
        """Write the plan, which holds the time spent; not for every one of thousands of short trials, as it is long."""
        instant = time.monotonic()
        if instant - self._kept_at >= KEEP_TIME_EVERY:
            self._folder.write_plan(self._plan)
            self._kept_at = instant

    def _decide(self, experiment: AbstractExperiment, **what: list[str]) -> None:
        self._plan["decisions"].append({"at": now(), "experiment": experiment.key, **what})
        self._folder.write_plan(self._plan)
