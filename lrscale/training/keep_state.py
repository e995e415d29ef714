"""Keeps the state of a trial at given places, for trials that branch off there."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, final

import torch

from lrscale.store import BranchPoint, TrialSpec
from lrscale.store.files import to_json, write_atomically
from lrscale.store.states import ABOUT, partial_path, publish_state, state_path
from lrscale.training.divergence import DivergenceWatch
from lrscale.training.random_states import random_states

STATE_VERSION = 1
"""Schema version of a state."""
COMMON = "common.pt"
"""File of what all ranks have in common."""


def rank_file(rank: int) -> str:
    """Return the name of the file of what a rank has of its own."""
    return f"rank-{rank}.pt"


@final
class StateKeeper:
    """Writes weights, optimizer states, random states of every rank and the place in training into the study.

    Every rank takes part. The state is written beside its place and renamed once it is whole, so that half of one is
    never read. States of the user's callbacks are kept with it; no checkpoint and no logger of theirs is touched.

    Parameters
    ----------
    spec : TrialSpec
        Of the trial.
    positions : collection of int
        Base steps after which the state is kept.
    folder : Path
        Of the trial.
    rank, world_size : int
        This process and how many there are.
    """

    def __init__(self, spec: TrialSpec, positions: Collection[int], folder: Path, rank: int, world_size: int) -> None:
        self._spec = spec
        self._positions = frozenset(positions)
        self._trials = folder.parent
        self._rank = rank
        self._world_size = world_size

    def due(self, position: int) -> bool:
        """Whether the state is to be kept here."""
        return position in self._positions

    def keep(self, trainer: Any, module: Any, *, position: int, steps: int, watch: DivergenceWatch) -> None:
        """Write the state.

        Parameters
        ----------
        trainer, module
            As in a callback's hook.
        position : int
            Base steps done.
        steps : int
            Optimizer steps done since the beginning of training.
        watch : DivergenceWatch
            As told of every step so far.
        """
        state = state_path(self._trials, BranchPoint(trial_id=self._spec.trial_id, position=position))
        partial = partial_path(state)
        partial.mkdir(parents=True, exist_ok=True)
        own = {"random": random_states(), "buffers": dict(module.named_buffers())}
        torch.save(own, partial / rank_file(self._rank))
        common = _common(trainer, module)
        if self._rank == 0:
            torch.save(common, partial / COMMON)
            about = {
                "state_version": STATE_VERSION,
                "trial_id": self._spec.trial_id,
                "position": position,
                "steps": steps,
                "global_step": trainer.global_step,
                "world_size": self._world_size,
                "seed": self._spec.seed,
                "global_batch_size": self._spec.global_batch_size,
                "watch": _watched(watch),
            }
            write_atomically(partial / ABOUT, to_json(about))
        # Nothing but a whole state has its name: the others have written theirs when the first renames.
        trainer.strategy.barrier("state written")
        if self._rank == 0:
            publish_state(state)
        trainer.strategy.barrier("state published")


def own_callbacks(trainer: Any) -> dict[str, Any]:
    """Return the callbacks of the user's, by the name under which Lightning keeps their state."""
    return {
        callback.state_key: callback
        for callback in trainer.callbacks
        # Those of a trial derive from parts of this package, and hold nothing that a branch goes on with.
        if not any(kind.__module__.startswith("lrscale.training.") for kind in type(callback).__mro__)
    }


def _common(trainer: Any, module: Any) -> dict[str, Any]:
    callbacks = own_callbacks(trainer)
    optimizers = [getattr(optimizer, "optimizer", optimizer) for optimizer in trainer.strategy.optimizers]
    common: dict[str, Any] = {
        "state_dict": trainer.strategy.lightning_module_state_dict(),
        "optimizer_states": [optimizer.state_dict() for optimizer in optimizers],
        "global_step": trainer.global_step,
        "epoch": trainer.current_epoch,
        "precision": trainer.precision_plugin.state_dict(),
        "callbacks": {name: callback.state_dict() for name, callback in callbacks.items()},
    }
    for callback in callbacks.values():
        callback.on_save_checkpoint(trainer, module, common)
    # What a module keeps outside of its state_dict, such as averaged weights, it adds here, as to its own checkpoints.
    module.on_save_checkpoint(common)
    return common


def _watched(watch: DivergenceWatch) -> Mapping[str, Any]:
    plain = dataclasses.asdict(watch)
    return {name: plain[name] for name in plain if name not in ("horizon", "warmup", "patience", "tolerated")}
