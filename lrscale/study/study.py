"""Runs the experiments of a recipe in a study folder, as far as their trials are not there yet."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale import __version__
from lrscale.errors import LrscaleError, StudyError, TrialsFailedError, did_you_mean
from lrscale.launch import AbstractLauncher, TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import Recipe, compare_recipes
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, Trial, TrialSpec
from lrscale.store.files import read_json, to_json, write_atomically
from lrscale.study.analysed import analysed, usable
from lrscale.study.experiments import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Finding
from lrscale.study.layouts.memory_search import largest_that_fits
from lrscale.study.planned import PlannedExperiment, estimate, unknown_cost
from lrscale.study.specs import riding_instruments, trial_layout
from lrscale.units import Layout

MOST_ROUNDS = 200
"""An experiment asks for trials in rounds; one that never ends is a mistake in it."""
LOST = frozenset({"crashed", "out_of_memory", "timed_out"})
"""Endings for a reason of the trial's own, which are no answer unless an experiment says so."""
IDENTITY = ("name", "task", "seed")
"""Parts of a recipe that a study cannot change: trials of different tasks must not lie side by side."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOutcome:
    """What a run of a study did."""

    findings: tuple[Finding, ...]
    ran: int
    """Trials that ran now."""
    reused: int
    """Trials that were already there."""
    failed: int
    """Trials that ended for a reason of their own: crashed, out of memory, timed out."""


@final
class Study:
    """A recipe and the folder where its trials lie.

    Parameters
    ----------
    recipe : Recipe
        What is asked.
    folder : StudyFolder
        Where it is kept.
    """

    def __init__(self, recipe: Recipe, folder: StudyFolder) -> None:
        self.recipe = recipe
        self.folder = folder

    def run(
        self,
        launcher: AbstractLauncher,
        *,
        experiments: Sequence[str] | None = None,
        progress: AbstractProgress,
    ) -> StudyOutcome:
        """Run what is missing and analyse what is there.

        Parameters
        ----------
        launcher : AbstractLauncher
            Where trials run; entered by the caller.
        experiments : sequence of str or None, optional
            Keys of the experiments to run. Default None: all that the recipe asks.
        progress : AbstractProgress
            Told what happens.

        Raises
        ------
        StudyError
            When the folder is in use, of a newer version, or of another recipe.
        TaskError
            When the task cannot be built.
        TrialsFailedError
            When all trials of a round crashed.
        """
        with self.folder.locked():
            plan = self._begin(progress)
            facts = self._facts(plan, launcher)
            view = StudyView(dict(StudyView.of(self.folder).trials), self.folder.trajectory)
            findings: dict[str, Finding] = {}
            # Trials asked for, each with the endings that its experiment takes for an answer.
            wanted: dict[str, frozenset[str]] = {}
            ran: set[str] = set()
            for experiment in self._asked(experiments):
                context = Context(recipe=self.recipe, view=view, facts=facts, findings=usable(findings))
                ran |= self._run_rounds(experiment, context, view, launcher, progress, plan)
                wanted |= {spec.trial_id: frozenset(experiment.answers) for spec in experiment.plan(context)}
                findings[experiment.key] = analysed(experiment, context)
            self._write(plan, findings.values())
        progress.finished()
        bad = [
            trial for trial in view if trial.trial_id in wanted and trial.record.status in LOST - wanted[trial.trial_id]
        ]
        reused = len(wanted.keys() - ran)
        return StudyOutcome(findings=tuple(findings.values()), ran=len(ran), reused=reused, failed=len(bad))

    def plan(self, view: StudyView, *, experiments: Sequence[str] | None = None) -> tuple[PlannedExperiment, ...]:
        """Return what each experiment would still run, and how long that takes where a throughput is known."""
        facts = self.folder.read_plan().get("facts", {}) if self.folder.exists() else {}
        findings: dict[str, Finding] = {}
        planned = []
        for experiment in self._asked(experiments):
            context = Context(recipe=self.recipe, view=view, facts=facts, findings=usable(findings))
            try:
                planned.append(estimate(experiment, context))
            except LrscaleError as error:
                if facts:
                    raise
                # A horizon in epochs has no length before the task has been looked at, which the first run does.
                planned.append(unknown_cost(experiment, str(error)))
                continue
            if context.finished(experiment.plan(context)):
                findings[experiment.key] = analysed(experiment, context)
        return tuple(planned)

    def analyse(self, view: StudyView, *, experiments: Sequence[str] | None = None) -> tuple[Finding, ...]:
        """Return the findings of the trials that are there; nothing runs and nothing is written.

        An experiment that wants trials and has none of them yet is passed over.
        """
        facts = self.folder.read_plan().get("facts", {})
        findings: dict[str, Finding] = {}
        for experiment in self._asked(experiments):
            context = Context(recipe=self.recipe, view=view, facts=facts, findings=usable(findings))
            wanted = experiment.plan(context)
            if not wanted or context.finished(wanted):
                findings[experiment.key] = analysed(experiment, context)
        return tuple(findings.values())

    def write_fits(self, findings: Iterable[Finding]) -> Path:
        """Write ``fits.json`` anew from findings, and return its path; trials and findings stay as they are."""
        path = self.folder.path / "fits.json"
        with self.folder.locked():
            write_atomically(path, to_json(_fits({one.key: one.to_dict() for one in findings}), indent=1))
        return path

    def _asked(self, experiments: Sequence[str] | None) -> list[AbstractExperiment]:
        for key in experiments or ():
            if key not in EXPERIMENTS:
                raise LrscaleError(f"unknown experiment {key}", hint=did_you_mean(key, EXPERIMENTS))
        chosen = [
            experiment
            for key, experiment in EXPERIMENTS.items()
            if experiment.is_asked(self.recipe) and (experiments is None or key in experiments)
        ]
        if not chosen:
            raise LrscaleError(
                "the recipe asks nothing" if experiments is None else f"the recipe has no {', '.join(experiments)}",
                hint="add it under experiments",
            )
        return chosen

    def _begin(self, progress: AbstractProgress) -> dict[str, Any]:
        resolved = {**self.recipe.dump(), "task": self.recipe.task.resolved(self.recipe.root)}
        if not self.folder.exists():
            plan: dict[str, Any] = {
                "lrscale_version": __version__,
                "created": _now(),
                "recipe": resolved,
                "root": str(self.recipe.root.resolve()),
                "decisions": [],
            }
            write_atomically(self.folder.path / "recipe.yaml", self.recipe.text or to_json(resolved, indent=1))
            self.folder.write_plan(plan)
            return plan
        plan = self.folder.read_plan()
        if not self.folder.records():
            # Nothing stands on the earlier recipe yet: a corrected class path must not need another folder.
            plan.pop("facts", None)
            plan["recipe"] = resolved
        changes = compare_recipes(plan["recipe"], resolved)
        fixed = [change for change in changes if change.path.split(".")[0] in IDENTITY]
        if fixed:
            told = "; ".join(str(change) for change in fixed[:5])
            raise StudyError(
                f"the recipe has changed since the study in {self.folder.path} began: {told}",
                hint="give the changed recipe a folder of its own with --study",
            )
        if changes:
            told = "; ".join(str(change) for change in changes)
            progress.note(f"the study goes on with a changed recipe: {told}")
            plan["decisions"].append({"at": _now(), "recipe_changed": [str(change) for change in changes]})
            plan["recipe"] = resolved
            write_atomically(self.folder.path / "recipe.yaml", self.recipe.text or to_json(resolved, indent=1))
            self.folder.write_plan(plan)
        return plan

    def _facts(self, plan: dict[str, Any], launcher: AbstractLauncher) -> Mapping[str, Any]:
        if "facts" not in plan:
            # One forward's worth of examples is enough to look at the task; a spec is only its carrier.
            scaling = self.recipe.experiments.scaling
            world = self.recipe.layout.devices * self.recipe.layout.num_nodes
            size = max(2, min(scaling.batch_sizes) // world) if scaling is not None else 2
            job = {"spec": _carrier(self.recipe, size).to_dict()}
            layout = Layout(per_device_batch_size=size)
            plan["facts"] = launcher.inspect(job, layout, self.folder.path / "inspect")
            self.folder.write_plan(plan)
        facts: Mapping[str, Any] = plan["facts"]
        return facts

    def _run_rounds(
        self,
        experiment: AbstractExperiment,
        context: Context,
        view: StudyView,
        launcher: AbstractLauncher,
        progress: AbstractProgress,
        plan: dict[str, Any],
    ) -> set[str]:
        trials: dict[str, Trial] = view.trials  # type: ignore[assignment]  # this run's own dict, made in `run`
        ran: set[str] = set()
        for round_number in range(MOST_ROUNDS):
            wanted = {spec.trial_id: spec for spec in experiment.plan(context)}
            missing = [
                spec
                for trial_id, spec in wanted.items()
                if trial_id not in trials or (trials[trial_id].record.retryable and trial_id not in ran)
            ]
            if round_number == 0 or missing:
                progress.started(experiment.key, len(missing), len(wanted) - len(missing))
            if not missing:
                return ran
            plan["decisions"].append(
                {"at": _now(), "experiment": experiment.key, "trials": [spec.trial_id for spec in missing]}
            )
            self.folder.write_plan(plan)
            finished = self._launch(missing, trials, launcher, progress, largest_that_fits(context.findings))
            ran |= {trial.trial_id for trial in finished}
            crashed = finished and all(trial.record.status == "crashed" for trial in finished)
            if crashed and not experiment.survives_crashes(context):
                record = finished[0].record
                tail = "\n  ".join(record.log_tail)
                which = "the only trial" if len(finished) == 1 else f"all {len(finished)} trials"
                raise TrialsFailedError(
                    f"{which} of {experiment.key} crashed: {record.reason}" + (f"\n  {tail}" if tail else ""),
                    hint=f"its logs are in {self.folder.trial_path(record.trial_id)}",
                )
        raise LrscaleError(f"experiment {experiment.key} still asks for trials after {MOST_ROUNDS} rounds")

    def _launch(
        self,
        missing: Iterable[TrialSpec],
        trials: dict[str, Trial],
        launcher: AbstractLauncher,
        progress: AbstractProgress,
        fits: int | None,
    ) -> list[Trial]:
        specs = {spec.trial_id: spec for spec in missing}
        layouts = {trial_id: trial_layout(self.recipe, spec, fits) for trial_id, spec in specs.items()}
        requests = [
            TrialRequest(
                spec=spec,
                layout=layouts[trial_id],
                folder=self.folder.begin_trial(spec),
                instruments=riding_instruments(self.recipe, spec),
            )
            for trial_id, spec in specs.items()
        ]
        finished = []
        for record in launcher.run(requests, progress):
            self.folder.finish_trial(record)
            trial = Trial(specs[record.trial_id], record)
            trials[record.trial_id] = trial
            finished.append(trial)
            progress.trial_finished(trial)
        return finished

    def _write(self, plan: Mapping[str, Any], findings: Iterable[Finding]) -> None:
        found = {finding.key: finding.to_dict() for finding in findings}
        path = self.folder.path / "findings.json"
        earlier = {}
        if path.exists():
            earlier = {key: value for key, value in read_json(path).items() if key not in found}
        whole = {key: (found.get(key) or earlier.get(key)) for key in EXPERIMENTS if key in found or key in earlier}
        write_atomically(path, to_json(whole, indent=1))
        write_atomically(self.folder.path / "fits.json", to_json(_fits(whole), indent=1))
        self.folder.write_plan(plan)


def _fits(findings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: {name: value["data"][name] for name in ("law", "cells", "schedules") if name in value["data"]}
        for key, value in findings.items()
        if value is not None
    }


def read_findings(folder: StudyFolder) -> tuple[Finding, ...]:
    """Return the findings that the last run wrote; none when it has not got that far."""
    path = folder.path / "findings.json"
    if not path.exists():
        return ()
    return tuple(Finding.from_dict(plain) for plain in read_json(path).values())


def _carrier(recipe: Recipe, size: int) -> TrialSpec:
    return TrialSpec(
        task=recipe.task.resolved(recipe.root),
        schedule=ScheduleSpec(name="constant"),
        peak_lr=1e-3,
        global_batch_size=size,
        horizon=1,
        seed=recipe.seed,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
