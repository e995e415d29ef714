"""A search as Optuna sees it: a study rebuilt from the trials that have ended, and what it asks for next."""

from __future__ import annotations

import importlib
import importlib.util
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, final

from lrscale.errors import LrscaleError
from lrscale.stoppers.hyperband import STUDY_NAME
from lrscale.study.search.course import Setting

STARTUP = 5
"""Random trials before TPE and the Gaussian process learn. Optuna's own 10 would be all of a search's default trials;
settings are two here, and five show the slope of either."""
CMAES_STARTUP = 1
"""Optuna's own: CMA-ES begins with a population that is spread by itself."""
SAMPLERS: Mapping[str, str] = MappingProxyType(
    {"tpe": "TPESampler", "gp": "GPSampler", "cmaes": "CmaEsSampler", "random": "RandomSampler"}
)
"""Name in a recipe -> class of ``optuna.samplers``."""
PRUNERS: Mapping[str, str] = MappingProxyType(
    {"median": "MedianPruner", "successive_halving": "SuccessiveHalvingPruner", "hyperband": "HyperbandPruner"}
)
"""Name of a stopper -> class of ``optuna.pruners``; samplers look at no stopper that is none of Optuna's."""
How = Literal["completed", "diverged", "stopped", "failed", "not tried"]
MOST_ASKS = 5
"""Settings asked for, at most, for each trial that may run, where some are known to be in vain."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What Optuna is told of a trial."""

    how: How
    loss: float | None = None
    """Final loss of a completed one."""
    losses: tuple[tuple[int, float], ...] = ()
    """Number and loss of each validation, where a pruner looks at them."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Game:
    """All that decides what Optuna asks for, besides what it is told."""

    sampler: str
    startup: int | None
    pruner: str | None
    pruner_settings: tuple[tuple[str, int], ...]
    validations: int
    learning_rates: tuple[float, float]
    """Lowest and highest LR."""
    batch_sizes: tuple[int, ...]
    """Ascending."""
    at_once: int
    trials: int
    seed: int

    def asked_after(self, told: tuple[tuple[Told, ...], ...]) -> int:
        """Return how many settings the round after some others asks for.

        Examples
        --------
        Settings that were not tried are no trials.

        >>> game = Game(sampler="tpe", startup=None, pruner=None, pruner_settings=(), validations=1, at_once=2,
        ...             learning_rates=(0.1, 1.0), batch_sizes=(8, 16), trials=3, seed=0)
        >>> game.asked_after(()), game.asked_after(((Told(how="completed"), Told(how="completed")),))
        (2, 1)
        >>> game.asked_after(((Told(how="completed"), Told(how="not tried")),))
        2
        """
        every = [one for some in told for one in some]
        tried = sum(one.how != "not tried" for one in every)
        return max(min(self.at_once, self.trials - tried, MOST_ASKS * self.trials - len(every)), 0)


@lru_cache(maxsize=1024)
def next_round(game: Game, told: tuple[tuple[Told, ...], ...]) -> tuple[Setting, ...]:
    """Return LR and batch size of the trials to run next, side by side.

    Parameters
    ----------
    game : Game
        Who plays, in which space, with which seed.
    told : tuple of tuple of Told
        The rounds so far, each in the order in which its trials were asked for.

    Raises
    ------
    LrscaleError
        When a package is absent, and when CMA-ES has one axis only.
    """
    with warnings.catch_warnings():
        # Several samplers are marked as experimental by Optuna, at every use.
        warnings.simplefilter("ignore")
        return _live(game).after(told)


@lru_cache(maxsize=2)
def _live(game: Game) -> _Live:
    # Going on from the last round spares asking for all earlier ones again; what is asked for is the same either way.
    return _Live(game)


@final
class _Live:
    """An Optuna study in memory, as far as it has been told.

    Its sampler draws from one stream of random numbers, so that a later round follows from the earlier ones only when
    these were asked for and told in the same order: a study that goes on is rebuilt by playing them again.
    """

    def __init__(self, game: Game) -> None:
        self._game = game
        self._optuna = import_optuna(game.sampler)
        self._begin()

    def after(self, told: tuple[tuple[Told, ...], ...]) -> tuple[Setting, ...]:
        """Return what is asked for after some rounds."""
        if told[: len(self._told)] != self._told:
            self._begin()
        for some in told[len(self._told) :]:
            self._tell(some)
            self._ask()
        return tuple(self._settings)

    def _begin(self) -> None:
        optuna, game = self._optuna, self._game
        self._study = optuna.create_study(
            study_name=STUDY_NAME, sampler=_sampler(optuna, game), pruner=_pruner(optuna, game)
        )
        self._told: tuple[tuple[Told, ...], ...] = ()
        self._open: list[Any] = []
        self._settings: list[Setting] = []
        self._ask()

    def _ask(self) -> None:
        self._open = [
            self._study.ask(_axes(self._optuna, self._game)) for _ in range(self._game.asked_after(self._told))
        ]
        self._settings = [_setting(self._game, trial.params) for trial in self._open]

    def _tell(self, some: tuple[Told, ...]) -> None:
        state = self._optuna.trial.TrialState
        for trial, told in zip(self._open, some, strict=True):
            for place, loss in told.losses:
                trial.report(loss, place)
                # What it says is known already; Optuna notes down which rungs a trial has come to when it is asked.
                trial.should_prune()
            if told.how == "stopped":
                self._study.tell(trial, state=state.PRUNED)
            elif told.how == "failed":
                self._study.tell(trial, state=state.FAIL)
            else:
                # A trial that diverged, or whose batch finds no memory, is worse than any that ended; a failed one
                # would say nothing.
                self._study.tell(trial, told.loss if told.how == "completed" else math.inf)
        self._told = (*self._told, some)


def import_optuna(sampler: str) -> Any:
    """Return the optuna package, quiet.

    Raises
    ------
    LrscaleError
        When it, or what a sampler needs besides, is not installed.
    """
    for package in ("optuna", *(("cmaes",) if sampler == "cmaes" else ())):
        if not is_installed(package):
            raise LrscaleError(
                f"experiments.search.engine needs the package {package}, which is not installed",
                hint="pip install 'lrscale[optuna]', or leave engine out for lrscale's own planner",
            )
    optuna = importlib.import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def _axes(optuna: Any, game: Game) -> dict[str, Any]:
    lo, hi = game.learning_rates
    return {
        "lr": optuna.distributions.FloatDistribution(lo, hi, log=True),
        # By its place among the sizes: they are allowed ones, in their order, whatever lies between.
        "batch": optuna.distributions.IntDistribution(0, len(game.batch_sizes) - 1),
    }


def _setting(game: Game, params: Mapping[str, Any]) -> Setting:
    lo, hi = game.learning_rates
    # Six significant digits, so that equal settings give equal trial ids on every machine.
    lr = min(max(float(f"{params['lr']:.6g}"), lo), hi)
    return lr, game.batch_sizes[int(params["batch"])]


def _sampler(optuna: Any, game: Game) -> Any:
    kind = getattr(optuna.samplers, SAMPLERS[game.sampler])
    if game.sampler == "random":
        return kind(seed=game.seed)
    if game.sampler == "cmaes":
        if len(game.batch_sizes) < 2:
            raise LrscaleError(
                "CMA-ES needs two axes, and there is one batch size", hint="set experiments.search.engine.sampler: tpe"
            )
        return kind(seed=game.seed, n_startup_trials=game.startup or CMAES_STARTUP)
    startup = game.startup or STARTUP
    if game.sampler == "gp":
        return kind(seed=game.seed, n_startup_trials=startup)
    # LR and batch size are chosen together, and trials that are still to end count as bad ones, so that several asked
    # for at once lie apart.
    return kind(seed=game.seed, n_startup_trials=startup, multivariate=True, constant_liar=game.at_once > 1)


def _pruner(optuna: Any, game: Game) -> Any:
    """Return Optuna's own pruner: a sampler looks at it, and learns within the brackets of Hyperband."""
    settings = dict(game.pruner_settings)
    if game.pruner is None or game.pruner not in PRUNERS:
        return optuna.pruners.NopPruner()
    kind = getattr(optuna.pruners, PRUNERS[game.pruner])
    if game.pruner == "median":
        return kind(n_startup_trials=settings["startup"], n_warmup_steps=settings["first"])
    halving = {"min_resource": settings["first"], "reduction_factor": settings["reduction_factor"]}
    return kind(**halving, **({"max_resource": game.validations} if game.pruner == "hyperband" else {}))
