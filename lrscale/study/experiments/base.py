"""What every experiment is: a question, the trials that answer it, and the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from lrscale.recipe import Recipe
from lrscale.registry import Registry
from lrscale.store import StudyView, Trial, TrialSpec
from lrscale.store.record import Status
from lrscale.study.budget.allowance import Allowance
from lrscale.study.cost import CostModel, TrialCost
from lrscale.study.driven import AbstractDriver
from lrscale.study.finding import Finding
from lrscale.study.layouts.memory_search import largest_that_fits


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an experiment may look at."""

    recipe: Recipe
    view: StudyView
    facts: Mapping[str, Any]
    """What inspecting the task found."""
    findings: Mapping[str, Finding]
    """Findings of the experiments before this one, by key."""
    budget: Allowance = field(default_factory=Allowance)
    """What this experiment may still spend, on top of its finished trials. Trials beyond it are not started, whatever
    is planned; an experiment whose number of trials is free chooses it by this."""
    prices: CostModel | None = None
    """What trials have measured of their cost; None: read off `view` each time it is asked."""

    @property
    def training_examples(self) -> int | None:
        """Examples in an epoch, where that is known."""
        size = self.facts.get("training_examples")
        return int(size) if isinstance(size, int) else None

    def cost(self, spec: TrialSpec) -> TrialCost:
        """Return what a trial is expected to take, as far as anything tells it."""
        return self.price_list().cost(spec)

    def affords(self, specs: Iterable[TrialSpec]) -> int:
        """Return how many of some trials the budget allows, taken in the order given.

        Examples
        --------
        An experiment that can do with any number of trials like ``spec``::

            count = context.affords([spec] * 200) if context.budget.bounded else 200
        """
        return self.budget.affords(map(self.price_list().cost, specs))

    def price_list(self) -> CostModel:
        """Return what prices trials."""
        if self.prices is not None:
            return self.prices
        return CostModel.of(self.recipe, self.view, self.facts, largest_that_fits(self.findings))

    @property
    def own_trials(self) -> list[Trial]:
        """The finished trials of the recipe's task as it stands there, without other versions and other optimizers."""
        if self.recipe.experiments.forecast is None and self.recipe.experiments.factors is None:
            return [trial for trial in self.view if not trial.spec.other_optimizer]
        task = self.recipe.task.resolved(self.recipe.root)
        return [trial for trial in self.view if dict(trial.spec.task) == task and not trial.spec.other_optimizer]

    def ended(self, spec: TrialSpec) -> Trial | None:
        """Return the finished trial of a spec, or None while it is to run, for the first time or once more.

        A trial that was lost says nothing, and the next run of the study tries it again. What was asked for in between,
        without its loss, would not have been asked for with it: a plan that follows losses waits for it, so that its
        course is the one that it would have taken undisturbed.
        """
        trial = self.view.get(spec)
        return None if trial is None or trial.record.retryable else trial

    def finished(self, specs: Iterable[TrialSpec]) -> list[Trial]:
        """Return the finished trials among some specs."""
        found = (self.view.get(spec) for spec in specs)
        return [trial for trial in found if trial is not None]


class AbstractExperiment(ABC):
    """A question about the task.

    `plan` is a pure function of the finished trials: asked again with more of them, it returns the same specs and
    perhaps more. A study runs what is missing and asks again until nothing is. So an adaptive experiment resumes like
    any other, and its course does not depend on where or in which order trials ran.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    answers: ClassVar[frozenset[Status]] = frozenset()
    """Endings of a trial that answer the question and so count as no failure, besides completion and divergence."""
    starts_from: ClassVar[frozenset[str]] = frozenset()
    """Keys of the experiments before it whose findings its plan follows. While one of them waits for a trial that was
    lost, this one would begin elsewhere than it would have undisturbed, and so does not begin."""
    waits_for_lost: ClassVar[bool] = True
    """Whether a trial that was lost leaves the question open until it has run. Default: it does."""
    importance: ClassVar[int] = 50
    """Place in the order in which a budget is given to the questions, smaller first. First what a recommendation
    stands on (range test, sweep, search), then what it must keep to on the devices (layout check, memory, throughput),
    then what refines it or carries it further (noise scale, schedules, forecast). Default: in the middle."""

    @abstractmethod
    def is_asked(self, recipe: Recipe) -> bool:
        """Whether the recipe asks this question."""

    @abstractmethod
    def plan(self, context: Context) -> list[TrialSpec]:
        """Return every trial wanted so far, in the order in which they should run."""

    def packages(self, recipe: Recipe) -> Mapping[str, str]:
        """Return the packages that its trials need besides lrscale's own, each with what installs it. Default: none.

        They are looked for before the first trial of a study: hours later would be late.
        """
        del recipe
        return {}

    def returns_to(self, spec: TrialSpec, wanted: Collection[TrialSpec]) -> bool:
        """Whether a later round may branch off from a trial again, whose states are kept for it. Default: no.

        Parameters
        ----------
        spec : TrialSpec
            Of a trial that others branch off from.
        wanted : collection of TrialSpec
            All that are wanted so far.
        """
        del spec, wanted
        return False

    def survives_crashes(self, context: Context) -> bool:
        """Whether a round all of whose trials crashed is an answer, and not a broken task. Default: it is not."""
        del context
        return False

    @abstractmethod
    def at_most(self, context: Context) -> list[TrialSpec]:
        """Return as many specs, of the right sizes, as the experiment could come to run; for cost estimates."""

    def typical(self, context: Context) -> list[TrialSpec]:
        """Return as many specs, of the right sizes, as the experiment usually comes to run. Default: `at_most`."""
        return self.at_most(context)

    def side_by_side(self, recipe: Recipe) -> int:
        """Return how many of its trials run at once, at least 1. Default: `layout.trials_at_once`."""
        return recipe.layout.at_once

    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        """Return settings of this experiment with which it asks less, each cheaper than the one before.

        They take the place of the recipe's where a budget does not reach for those. They leave settings out rather
        than change them, so that a larger budget later goes on with the trials that are there. Default: none.
        """
        del recipe
        return ()

    def nests(self, recipe: Recipe) -> bool:
        """Return whether a form's trials are among those of each fuller one, so that it may be reduced under way.

        Default: False.
        """
        del recipe
        return False

    def driver(self, context: Context) -> AbstractDriver | None:
        """Return who runs trials by its own means before any is planned, or None. Default: None."""
        del context
        return None

    @abstractmethod
    def analyse(self, context: Context) -> Finding:
        """Return what the finished trials say; "cannot tell" with what it would take is an answer."""


EXPERIMENTS: Registry[AbstractExperiment] = Registry("experiment")
