"""Runs the experiments of a recipe in a study folder, as far as their trials are not there yet."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale import __version__
from lrscale.errors import LayoutError, LrscaleError, StudyError, TaskError, TrialsFailedError, did_you_mean
from lrscale.launch import AbstractLauncher
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import Recipe, compare_recipes, with_settings
from lrscale.store import StudyFolder, StudyView, Trial, TrialSpec
from lrscale.store.files import read_json, to_json, write_atomically
from lrscale.study.analysed import KEPT_OUT, analysed, usable
from lrscale.study.budget.findings import left_out_finding, with_budget_checks
from lrscale.study.budget.forms import choose_forms
from lrscale.study.budget.keeper import BUDGET, Keeper
from lrscale.study.budget.spent import Ledger, spent_by_plan
from lrscale.study.code_state import code_state
from lrscale.study.cost import CostModel
from lrscale.study.experiments import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Finding
from lrscale.study.layouts.memory_search import largest_that_fits
from lrscale.study.looking import look_at
from lrscale.study.lost import held_up, lost_text, open_trials, waiting_finding, with_lost_check
from lrscale.study.measuring import Measuring
from lrscale.study.planned import PlannedExperiment
from lrscale.study.refused import note_refusal, with_refusal
from lrscale.study.rounds import Rounds, now
from lrscale.study.trial_logs import TrialLogs

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
    lost: str | None = None
    """How many trials were lost and by what, where some were: the same command tries them again."""
    waiting: tuple[str, ...] = ()
    """Keys of the questions that wait for those trials: their own, and those that start from their answers."""
    budget: tuple[str, ...] = ()
    """What the budget reduced and kept out, as sentences."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenRun:
    """What a run of a study reads and adds to while it lasts."""

    plan: dict[str, Any]
    trials: dict[str, Trial]
    """The finished ones, by trial id."""
    view: StudyView
    """Of the same trials, for those who only read."""
    ledger: Ledger
    facts: Mapping[str, Any]
    """What inspecting the task found."""
    logs: TrialLogs
    """Told of what has run."""


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
        TaskError, LayoutError
            When the task cannot be built. Of a task that has trained, a question that it refuses is answered by
            "cannot tell", with what it would take.
        TrialsFailedError
            When all trials of a round crashed, and none completed before, or the same happened to the last question.
        """
        asked = self._asked(experiments)
        self._require_packages(asked)
        findings: dict[str, Finding] = {}
        # Trials asked for, each with the endings that its experiment takes for an answer.
        wanted: dict[str, frozenset[str]] = {}
        # Questions that wait for trials which were lost, by key, and those trials.
        waiting: dict[str, str] = {}
        lost: dict[str, Trial] = {}
        # Questions in a row all of whose trials crashed.
        crashes = 0
        with self._opened(launcher, progress) as here:
            keeper = Keeper(self.recipe, here.ledger, here.plan, here.view, here.facts)
            keeper.refuse_if_nothing_starts(asked)
            rounds = Rounds(self.folder, here.plan, here.trials, launcher, progress, keeper, here.logs)
            for place, experiment in enumerate(asked):
                before = held_up(experiment, waiting)
                if before:
                    progress.note(f"{experiment.key} waits for trials of {', '.join(before)} that were lost")
                    context = keeper.context(experiment, asked[place + 1 :], usable(findings))
                    findings[experiment.key] = self._waiting(experiment, context, here.plan, before)
                    waiting[experiment.key] = experiment.title
                    continue
                error = None
                try:
                    context = rounds.run(experiment, asked[place + 1 :], usable(findings))
                except (TaskError, LayoutError, TrialsFailedError) as raised:
                    error = raised
                    crashes = crashes + 1 if isinstance(error, TrialsFailedError) else 0
                    # A task of which nothing has trained is broken, and so is a machine where question after question
                    # crashes. Else it is this question alone that the task refuses.
                    if crashes > 1 or not any(trial.record.status == "completed" for trial in here.view):
                        raise
                    progress.note(f"{experiment.key} cannot be answered: {error}")
                    context = keeper.context(experiment, asked[place + 1 :], usable(findings))
                else:
                    crashes = 0
                note_refusal(here.plan, experiment, error)
                planned = experiment.plan(context)
                wanted |= {spec.trial_id: frozenset(experiment.answers) for spec in planned}
                findings[experiment.key] = self._finding(experiment, context, here.plan, planned)
                if missed := open_trials(experiment, context, planned):
                    waiting[experiment.key] = experiment.title
                    lost |= {trial.trial_id: trial for trial in missed}
            self._write(findings.values())
        progress.finished()
        there = wanted.keys() & here.trials.keys()
        bad = [trial_id for trial_id in there if here.trials[trial_id].record.status in LOST - wanted[trial_id]]
        return StudyOutcome(
            findings=tuple(findings.values()),
            ran=len(rounds.ran),
            reused=len(there - rounds.ran),
            failed=len(bad),
            lost=lost_text(list(lost.values())) if lost else None,
            waiting=tuple(waiting),
            budget=keeper.outcome(),
        )

    def measure(self, launcher: AbstractLauncher, *, progress: AbstractProgress) -> None:
        """Run a few short trials that tell how long the others will take, as far as they are not there.

        They are kept in the study like any other.

        Parameters
        ----------
        launcher : AbstractLauncher
            Where they run; entered by the caller.
        progress : AbstractProgress
            Told what happens.

        Raises
        ------
        StudyError
            When the folder is in use, of a newer version, or of another recipe.
        TaskError
            When the task cannot be built.
        TrialsFailedError
            When they crash.
        """
        experiment = Measuring(self._asked(None))
        # Whatever the budget, these say what it can do.
        recipe = self.recipe.model_copy(update={"cost": self.recipe.cost.model_copy(update={"budget": None})})
        with self._opened(launcher, progress) as here:
            # What the last run did about a budget stays in the plan.
            keeper = Keeper(recipe, here.ledger, dict(here.plan), here.view, here.facts)
            rounds = Rounds(self.folder, here.plan, here.trials, launcher, progress, keeper, here.logs)
            rounds.run(experiment, (), {})

    def plan(self, view: StudyView, *, experiments: Sequence[str] | None = None) -> tuple[PlannedExperiment, ...]:
        """Return what each experiment would still run, what it takes, and what the recipe's budget leaves of it."""
        plan = self.folder.read_plan() if self.folder.exists() else {}
        facts = plan.get("facts", {})
        asked = self._asked(experiments)
        findings: dict[str, Finding] = {}
        for experiment in asked:
            context = Context(recipe=self.recipe, view=view, facts=facts, findings=usable(findings))
            if view.trials and context.finished(experiment.plan(context)):
                findings[experiment.key] = analysed(experiment, context)
        known = usable(findings)
        prices = CostModel.of(self.recipe, view, facts, largest_that_fits(known))
        left = spent_by_plan(plan, view).left_of(self.recipe.cost.budget, self.recipe.layout.at_once)

        def context_of(recipe: Recipe) -> Context:
            return Context(recipe=recipe, view=view, facts=facts, findings=known, budget=left, prices=prices)

        return choose_forms(asked, self.recipe, left, context_of).planned

    def analyse(self, view: StudyView, *, experiments: Sequence[str] | None = None) -> tuple[Finding, ...]:
        """Return the findings of the trials that are there; nothing runs and nothing is written.

        An experiment that wants trials and has none of them yet is passed over, unless the budget left it out.
        """
        plan = self.folder.read_plan()
        budget = plan.get(BUDGET)
        recipe = self.recipe if budget is None else with_settings(self.recipe, budget["reduced"])
        findings: dict[str, Finding] = {}
        for experiment in self._asked(experiments):
            context = Context(recipe=recipe, view=view, facts=plan.get("facts", {}), findings=usable(findings))
            wanted = experiment.plan(context)
            if not wanted or context.finished(wanted) or _left_out(experiment, plan):
                findings[experiment.key] = self._finding(experiment, context, plan, wanted)
        return tuple(findings.values())

    def _finding(
        self, experiment: AbstractExperiment, context: Context, plan: Mapping[str, Any], wanted: Sequence[TrialSpec]
    ) -> Finding:
        if _left_out(experiment, plan):
            return left_out_finding(experiment, plan[BUDGET])
        found = with_budget_checks(analysed(experiment, context), self.recipe, plan.get(BUDGET))
        return with_refusal(with_lost_check(found, open_trials(experiment, context, wanted)), plan)

    def _require_packages(self, asked: Sequence[AbstractExperiment]) -> None:
        for experiment in asked:
            for package, remedy in experiment.packages(self.recipe).items():
                if importlib.util.find_spec(package) is None:
                    raise TaskError(
                        f"experiments.{experiment.key} needs the package {package}, which is not installed", hint=remedy
                    )

    def _waiting(
        self, experiment: AbstractExperiment, context: Context, plan: Mapping[str, Any], before: Sequence[str]
    ) -> Finding:
        """Return what a question that waits has to say: what earlier runs found, where there are trials of them."""
        wanted = experiment.plan(context)
        if context.finished(wanted):
            return self._finding(experiment, context, plan, wanted)
        return waiting_finding(experiment, before)

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

    @contextlib.contextmanager
    def _opened(self, launcher: AbstractLauncher, progress: AbstractProgress) -> Iterator[_OpenRun]:
        """Open the study for a run, and keep the run's time in the plan however it ends."""
        with self.folder.locked():
            plan = self._begin(progress)
            trials = dict(StudyView.of(self.folder).trials)
            view = StudyView(trials, self.folder.trajectory)
            ledger = Ledger.open(plan, self.folder, view, self.recipe.layout.at_once)
            facts = self._facts(plan, launcher)
            # On leaving it waits for loggers, which is no time of the study's own.
            with TrialLogs(self.recipe, self.folder, progress) as logs:
                logs.add_finished(trials, plan)
                here = _OpenRun(plan=plan, trials=trials, view=view, ledger=ledger, facts=facts, logs=logs)
                try:
                    yield here
                except BaseException:
                    # The time is kept where it can be; what ended the run is what the user must read.
                    with contextlib.suppress(LrscaleError):
                        ledger.close(self.folder, view)
                        self.folder.write_plan(plan)
                    raise
                ledger.close(self.folder, view)
                self.folder.write_plan(plan)

    def _begin(self, progress: AbstractProgress) -> dict[str, Any]:
        resolved = {**self.recipe.dump(), "task": self.recipe.task.resolved(self.recipe.root)}
        if not self.folder.exists():
            plan: dict[str, Any] = {
                "lrscale_version": __version__,
                "created": now(),
                "recipe": resolved,
                "root": str(self.recipe.root.resolve()),
                "code": code_state(self.recipe.root),
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
        changes = compare_recipes(_in_todays_words(plan["recipe"], resolved), resolved)
        fixed = [change for change in changes if change.path.split(".")[0] in IDENTITY]
        if fixed:
            told = "; ".join(str(change) for change in fixed[:5])
            raise StudyError(
                f"the recipe has changed since the study in {self.folder.path} began: {told}",
                hint="give the changed recipe a folder of its own with --study",
            )
        # What a device costs, or is said to train, how jobs are asked for, and who else is shown the trials, changes no
        # question.
        silent = ("cost.price", "cost.throughput", "slurm", "logger")
        said = [str(change) for change in changes if not change.path.startswith(silent)]
        if said:
            progress.note(f"the study goes on with a changed recipe: {'; '.join(said)}")
            plan["decisions"].append({"at": now(), "recipe_changed": said})
        code = code_state(self.recipe.root)
        if code != plan.get("code"):
            if "code" in plan:
                plan["decisions"].append({"at": now(), "code": code or "no repository"})
            plan["code"] = code
        if changes:
            plan["recipe"] = resolved
            write_atomically(self.folder.path / "recipe.yaml", self.recipe.text or to_json(resolved, indent=1))
            self.folder.write_plan(plan)
        return plan

    def _facts(self, plan: dict[str, Any], launcher: AbstractLauncher) -> Mapping[str, Any]:
        facts = look_at(self.recipe, plan.get("facts"), launcher, self.folder.path)
        if facts != plan.get("facts"):
            plan["facts"] = facts
            self.folder.write_plan(plan)
        return facts

    def _write(self, findings: Iterable[Finding]) -> None:
        found = {finding.key: finding.to_dict() for finding in findings}
        path = self.folder.path / "findings.json"
        earlier = {}
        if path.exists():
            earlier = {key: value for key, value in read_json(path).items() if key not in found}
        whole = {key: (found.get(key) or earlier.get(key)) for key in EXPERIMENTS if key in found or key in earlier}
        write_atomically(path, to_json(whole, indent=1))
        write_atomically(self.folder.path / "fits.json", to_json(_fits(whole), indent=1))


def _in_todays_words(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recipe of a study with the fields that have come since, at their defaults: they are no change."""
    own = {**old, "task": {name: value for name, value in old["task"].items() if name != "config_sha256"}}
    try:
        filled = Recipe.model_validate(own).dump()
    except ValueError:
        # A field that is no more, or a stricter rule: what differs is told as it stands.
        return old
    # A resolved task leaves out what decides nothing where it is unset.
    defaults = {name: value for name, value in filled["task"].items() if name in new["task"]}
    return {**filled, "task": {**defaults, **old["task"]}}


def _left_out(experiment: AbstractExperiment, plan: Mapping[str, Any]) -> bool:
    """Whether the budget has left a question no trial; those that it shares with others answer those."""
    if experiment.key not in plan.get(BUDGET, {}).get(KEPT_OUT, {}):
        return False
    return not any(one.get("trials") for one in plan["decisions"] if one.get("experiment") == experiment.key)


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
