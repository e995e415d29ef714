"""What every engine of a search is: it says which trials to run, from those that have ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from lrscale.recipe import Recipe
from lrscale.registry import Registry
from lrscale.store import TrialSpec
from lrscale.study.driven import AbstractDriver
from lrscale.study.experiments.base import AbstractExperiment, Context
from lrscale.study.finding import Check, Finding
from lrscale.study.search.course import Course


class AbstractOwnAnswer(ABC):
    """What an engine found that is no single setting: its further trials, and its finding."""

    @abstractmethod
    def plan(self) -> list[TrialSpec]:
        """Return the trials that the answer still wants."""

    @abstractmethod
    def finding(self, experiment: AbstractExperiment) -> Finding:
        """Return the finding, as far as the trials have ended."""


class AbstractEngine(ABC):
    """Plans the trials of a search.

    Whoever plans them, the question, the confirmation, the finding and its checks are the same: the lowest loss at
    equal examples among the settings that were trained to their horizon.
    """

    key: ClassVar[str]
    """The ``name`` in the recipe's `experiments.search.engine`."""
    title: ClassVar[str]
    """What it is called where people read."""

    @abstractmethod
    def follow(self, context: Context) -> Course:
        """Return the course of the search as far as its trials have ended.

        It is a pure function of the finished trials: asked again with more of them, it wants the same trials and
        perhaps more. So a search that was killed goes on as if it had not been.
        """

    def sampled(self, context: Context, course: Course, count: int) -> list[TrialSpec]:
        """Return so many specs of the trials that are still to be asked for, as they usually come; for estimates.

        Default: whole ones, of the search's batch sizes in turn.
        """
        return course.setup.sampled(context, count)

    @abstractmethod
    def method(self, recipe: Recipe) -> str:
        """Return how it plans, and what it cannot tell, in a paragraph or two for the report."""

    def driver(self, context: Context) -> AbstractDriver | None:
        """Return who runs the trials to come by own means, or None where they are planned. Default: None."""
        del context
        return None

    def own_answer(self, context: Context) -> AbstractOwnAnswer | None:
        """Return the answer of an engine that searches for something else than one setting. Default: None."""
        del context
        return None

    def checks(self, recipe: Recipe) -> tuple[Check, ...]:
        """Return what of the settings leaves the engine nothing to do. Default: nothing."""
        del recipe
        return ()


ENGINES: Registry[AbstractEngine] = Registry("engine")


def engine_of(recipe: Recipe) -> AbstractEngine:
    """Return the engine of a recipe that asks for a search."""
    search = recipe.experiments.search
    assert search is not None
    return ENGINES[search.engine.name]
