"""Random states of a trial: what replicates share, what they differ in, and what ranks differ in."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from typing import Any, final

import numpy as np
import torch

from lrscale.training.methods import replace_method

DATA_SEED = 20260101
"""Seed under which data are built and split: the task's own, so that all trials of all seeds validate on one set."""
_LARGEST = 2**32
"""Seeds of numpy's global generator are below this."""


def seed_data() -> None:
    """Before a data module is built or set up; splits drawn without a generator of their own are then fixed."""
    _seed(DATA_SEED)


def seed_initialisation(seed: int) -> None:
    """Before the module is built or set up; the same on every rank, for every LR and for every batch size."""
    _seed(seed % _LARGEST)


def seed_rank(seed: int, rank: int) -> None:
    """Before the first step; from here on ranks draw different dropout masks."""
    _seed(mixed(seed, rank))


def mixed(*numbers: int) -> int:
    """Return a 32-bit seed that follows from several numbers (`numpy.random.SeedSequence`)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_hooks(module: Any, datamodule: Any | None, seed: int, *, module_holds_data: bool) -> None:
    """Have `setup` of the data and of the module run under states that do not depend on rank or on what ran before.

    ``prepare_data`` runs on one rank only; without this, whatever it draws would move the splits of that rank. A module
    that holds its data splits them in its own `setup`, which then runs under the data's seed.
    """
    if datamodule is not None:
        _before(datamodule, "setup", seed_data)
    _before(module, "setup", seed_data if module_holds_data else lambda: seed_initialisation(seed))


def _seed(seed: int) -> None:
    # What Lightning's `seed_everything(seed, workers=True)` does. `torch.manual_seed` notes a stack trace for every
    # kind of device that is not there, which a trial would pay six times over.
    os.environ["PL_GLOBAL_SEED"], os.environ["PL_SEED_WORKERS"] = str(seed), "1"
    random.seed(seed)
    np.random.seed(seed)
    if torch.cuda.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _before(owner: Any, name: str, action: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def hooked(*args: Any, **kwargs: Any) -> Any:
        action()
        return original(*args, **kwargs)

    replace_method(owner, name, hooked)


@final
class RandomState:
    """A course of random numbers of its own for code that draws from the global generators.

    Every rank runs the user's samplers under the same course, so that all see the same order, and what the samplers
    draw does not move the random numbers of the model.

    Parameters
    ----------
    seed : int
        In [0, 2**32).
    """

    def __init__(self, seed: int) -> None:
        outside = self._read()
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        self._state = self._read()
        self._write(outside)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make this course the one that the global generators follow, and note how far it got."""
        outside = self._read()
        self._write(self._state)
        try:
            yield
        finally:
            self._state = self._read()
            self._write(outside)

    @staticmethod
    def _read() -> tuple[Any, Any, torch.Tensor]:
        return random.getstate(), np.random.get_state(), torch.get_rng_state()

    @staticmethod
    def _write(state: tuple[Any, Any, torch.Tensor]) -> None:
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])
