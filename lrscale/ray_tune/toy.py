"""A search of a moment over a known basin: whether a scheduler or an algorithm runs in this environment."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrscale.ray_tune.algorithms import Bohb, Random
from lrscale.ray_tune.base import LOSS, TIME, AbstractAlgorithm, AbstractScheduler
from lrscale.ray_tune.space import Space
from lrscale.ray_tune.tuner import Search

TOY = Space(learning_rates=(1e-4, 1e-1), batch_sizes=(16, 32, 64))
BEST_EXPONENT = -2.5
TRIALS, LENGTH = 6, 3
PATIENCE = 20
"""Times that an algorithm is asked for one setting."""


def toy_loss(lr: float, batch_size: int, validation: int) -> float:
    """Return the loss of a setting at a validation; the best LR is 10 ** -2.5, at the smallest batch size."""
    return (math.log10(lr) - BEST_EXPONENT) ** 2 + 0.01 * math.log2(batch_size) + 1.0 / validation


def ask_algorithm(algorithm: AbstractAlgorithm, trials: int = 10, seed: int = 0) -> list[tuple[float, int]]:
    """Ask an algorithm for settings, tell it the toy's loss of each, and return what it asked for.

    No cluster is needed.

    Raises
    ------
    LrscaleError
        When a package is absent or refused.
    """
    algorithm.require()
    settings = []
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        searcher = algorithm.build(trials, seed)
        if searcher is None:
            return _random_settings(trials, seed)
        searcher.set_search_properties(LOSS, "min", TOY.domains())
        for number in range(trials):
            config = _suggestion(searcher, f"t{number}")
            if config is None:
                break
            lr, size = TOY.decode(config)
            result = {
                LOSS: toy_loss(lr, size, LENGTH),
                TIME: LENGTH,
                "training_iteration": LENGTH,
                "hyperband_info": {"budget": LENGTH},
                "config": config,
            }
            searcher.on_trial_result(f"t{number}", result)
            searcher.on_trial_complete(f"t{number}", result)
            settings.append((lr, size))
    return settings


def _suggestion(searcher: Any, name: str) -> Any:
    # Some have nothing to say until they are asked again; one that is done says so by a word.
    for _ in range(PATIENCE):
        config = searcher.suggest(name)
        if config is not None:
            return config if isinstance(config, dict) else None
    return None


def run_scheduler(scheduler: AbstractScheduler, trials: int = TRIALS, length: int = LENGTH) -> list[int]:
    """Run the toy under a scheduler, on the cluster that the process is connected to.

    Returns
    -------
    list of int
        Validations that each trial reached.
    """
    algorithm: AbstractAlgorithm = Bohb() if scheduler.algorithms == ("bohb",) else Random()
    search = Search(
        space=TOY, scheduler=scheduler, algorithm=algorithm, trials=trials, length=length, at_once=2, seed=0
    )
    with tempfile.TemporaryDirectory(prefix="lrscale-toy-") as storage:
        results = search.run(_ToyTrial(length), Path(storage), reuse_actors=True)
        if results.errors:
            raise RuntimeError(str(results.errors[0]))
        return [int((result.metrics or {}).get(TIME, 0)) for result in results]


def _random_settings(trials: int, seed: int) -> list[tuple[float, int]]:
    from ray.tune.search.variant_generator import generate_variants

    # As Ray's own generator of variants draws them.
    rng = np.random.RandomState(seed)
    found = []
    for _ in range(trials):
        ((_, config),) = generate_variants(TOY.domains(), random_state=rng)
        found.append(TOY.decode(config))
    return found


class _ToyTrial:
    """A trial that goes on from its checkpoint, as those of schedulers that pause and of evolutions must."""

    __name__ = "toy"

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, config: Mapping[str, Any]) -> None:
        from ray import tune

        begun, checkpoint = 0, tune.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                begun = int(Path(folder, "validation").read_text())
        for validation in range(begun + 1, self.length + 1):
            loss = toy_loss(*TOY.decode(config), validation)
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "validation").write_text(str(validation))
                tune.report({LOSS: loss, TIME: validation}, checkpoint=tune.Checkpoint.from_directory(folder))
