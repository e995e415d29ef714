"""``lrscale doctor --search``: which schedulers and search algorithms run in this environment, tried one by one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from lrscale.cli.doctor_checks import Check, installed
from lrscale.cli.text import seconds
from lrscale.errors import LrscaleError

if TYPE_CHECKING:
    from lrscale.ray_tune import AbstractAlgorithm, AbstractMember, AbstractScheduler

CPUS = 2
"""Said of the Ray instance that the schedulers are tried on; the toy trains nothing."""


def search_checks() -> Iterator[Check]:
    """Yield one check for each engine, scheduler and algorithm that a recipe's search may name."""
    yield from _optuna_checks()
    yield from _ray_checks()
    yield from _retired_checks()


def _optuna_checks() -> Iterator[Check]:
    from lrscale.study.engines.optuna_game import PRUNERS, SAMPLERS

    version = installed("optuna")
    for sampler in SAMPLERS:
        yield _tried(f"optuna sampler {sampler}", f"optuna {version}", partial(_play, sampler, None))
    for pruner in PRUNERS:
        yield _tried(f"optuna pruner {pruner}", f"optuna {version}", partial(_play, "random", pruner))


def _play(sampler: str, pruner: str | None) -> str:

    from lrscale.ray_tune.toy import TOY, toy_loss
    from lrscale.recipe.engines import PrunerChoice
    from lrscale.study.engines.optuna_game import Game, Told, next_round

    stopper = PrunerChoice(name=pruner).stopper() if pruner is not None else None
    game = Game(
        sampler=sampler,
        startup=3,
        pruner=pruner,
        pruner_settings=() if stopper is None else tuple(sorted(dataclasses.asdict(stopper).items())),
        validations=3,
        learning_rates=TOY.learning_rates,
        batch_sizes=TOY.batch_sizes,
        at_once=1,
        trials=6,
        seed=0,
    )
    told: tuple[tuple[Told, ...], ...] = ()
    while game.asked_after(told):
        ((lr, size),) = next_round(game, told)
        losses = tuple((place, toy_loss(lr, size, place)) for place in (1, 2, 3))
        told = (*told, (Told(how="completed", loss=losses[-1][1], losses=losses),))
    return f"{len(told)} settings asked for"


def _ray_checks() -> Iterator[Check]:
    from lrscale.launch.ray.cluster import EXTRA, keep_off_the_terminal, require_ray
    from lrscale.ray_tune import ALGORITHMS, SCHEDULERS

    try:
        ray = require_ray("a search by Ray Tune")
    except LrscaleError:
        for family in (SCHEDULERS, ALGORITHMS):
            for name, kind in family.items():
                sentence = f"{kind.title}: ray is not installed"
                yield Check(name=_label(kind, name), status="INFO", sentence=sentence, remedy=EXTRA)
        return
    for name, algorithm in ALGORITHMS.items():
        yield _member(name, algorithm, partial(_asked, algorithm))
    own = not ray.is_initialized()
    if own:
        keep_off_the_terminal()
        ray.init("local", num_cpus=CPUS, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    try:
        for name, scheduler in SCHEDULERS.items():
            yield _member(name, scheduler, partial(_ran, scheduler))
    finally:
        if own:
            ray.shutdown()


def _asked(algorithm: type[AbstractAlgorithm]) -> str:
    from lrscale.ray_tune.toy import ask_algorithm

    return f"{len(ask_algorithm(algorithm()))} settings asked for"


def _ran(scheduler: type[AbstractScheduler]) -> str:
    from lrscale.ray_tune.toy import run_scheduler

    validations = run_scheduler(scheduler())
    return f"{len(validations)} trials, of which {validations.count(max(validations))} to their horizon"


def _member(name: str, kind: type[AbstractMember], work: Callable[[], str]) -> Check:
    label = _label(kind, name)
    with_versions = ", ".join(f"{pin.package} {installed(pin.package)}" for pin in kind.pins)
    return _tried(label, with_versions or f"ray {installed('ray')}", work)


def _label(kind: type[AbstractMember], name: str) -> str:
    from lrscale.ray_tune import AbstractScheduler

    return f"ray {'scheduler' if issubclass(kind, AbstractScheduler) else 'algorithm'} {name}"


def _tried(label: str, versions: str, work: Callable[[], str]) -> Check:
    begun = time.monotonic()
    try:
        did = work()
    except LrscaleError as error:
        # Not installed is a choice; a version that is refused is in the way of what the user has asked for.
        absent = "not installed" in error.message
        return Check(name=label, status="INFO" if absent else "WARNING", sentence=error.message, remedy=error.hint)
    except Exception as error:  # whatever a library of another version raises
        said = " ".join(str(error).split())[-300:]
        return Check(
            name=label,
            status="WARNING",
            sentence=f"does not run with {versions}: {type(error).__name__}: {said}",
            remedy="docs/searches.md has the versions that were tested",
        )
    took = seconds(time.monotonic() - begun)
    return Check(name=label, status="PASS", sentence=f"runs with {versions}: {did} in {took}")


def _retired_checks() -> Iterator[Check]:
    from lrscale.ray_tune import RETIRED

    for name, (why, remedy) in RETIRED.items():
        yield Check(name=f"ray algorithm {name}", status="INFO", sentence=why, remedy=remedy)
