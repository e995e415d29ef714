"""Goes on with a trial where another one has kept its state."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, final

import torch

from lrscale.errors import TaskError
from lrscale.store import TrialSpec
from lrscale.store.files import read_json
from lrscale.store.states import ABOUT, has_state, state_path
from lrscale.training.divergence import DivergenceWatch
from lrscale.training.keep_state import COMMON, own_callbacks, rank_file
from lrscale.training.random_states import set_random_states

_LR_KEYS = ("lr", "initial_lr", "max_lr", "min_lr", "params")
"""Of a parameter group, what a branch sets by its own schedule."""


class StateMissingError(RuntimeError):
    """Raised where the state of a branch point is not there, or not to be read: its trial must run again."""


@final
class Branch:
    """The state that a trial begins with, and where it stands in training.

    Parameters
    ----------
    spec : TrialSpec
        Of the branch; it has a branch point.
    folder : Path
        Of the branch.
    rank : int
        This process.

    Raises
    ------
    StateMissingError
        When the state is not there.
    TaskError
        When it is of a trial that this one cannot go on from.
    """

    def __init__(self, spec: TrialSpec, folder: Path, rank: int) -> None:
        point = spec.branch
        assert point is not None
        self._path = state_path(folder.parent, point)
        if not has_state(folder.parent, point):
            raise StateMissingError(f"trial {point.trial_id} has kept no state after {point.position} base steps")
        about = read_json(self._path / ABOUT)
        size = about["global_batch_size"]
        if size != spec.global_batch_size:
            raise TaskError(
                f"a branch of trial {point.trial_id} has global_batch_size {size}, and not {spec.global_batch_size}",
                hint="grow its batch by a batch schedule",
            )
        self.same_order = about["seed"] == spec.seed
        """Whether it goes on with the order of examples and the random states that the trial had."""
        self.steps = int(about["steps"])
        """Optimizer steps done before it."""
        self._watch = about["watch"]
        self._global_step = int(about["global_step"])
        self._own = self._load(rank_file(rank)) if (self._path / rank_file(rank)).exists() else None
        self.notes: list[str] = []
        if self._own is None and self.same_order:
            self.notes.append(
                f"the trial it branches off from ran on {about['world_size']} ranks: the random states of the others "
                "begin anew, so that it goes on with other dropout masks than that trial would have"
            )

    def prepare_watch(self, watch: DivergenceWatch) -> None:
        """Have a watch go on where that of the trial stood: divergence is judged by the beginning of training."""
        for name, value in self._watch.items():
            # NaN and infinity are null in JSON.
            empty = math.inf if name == "lowest" else math.nan
            setattr(watch, name, empty if value is None else value)

    def load(self, trainer: Any, module: Any) -> dict[str, Any]:
        """Put the state in place, after the optimizers have been given their LR, and return the facts about it.

        Raises
        ------
        TaskError
            When it does not fit the module or its optimizers.
        """
        common = self._load(COMMON)
        callbacks = own_callbacks(trainer)
        for callback in callbacks.values():
            callback.on_load_checkpoint(trainer, module, common)
        module.on_load_checkpoint(common)
        try:
            module.load_state_dict(common["state_dict"], strict=getattr(module, "strict_loading", True))
        except RuntimeError as error:
            raise TaskError(f"the state of a branch point does not fit {type(module).__name__}: {error}") from error
        if self._own is not None:
            kept = self._own["buffers"]
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    if name in kept and kept[name].shape == buffer.shape:
                        buffer.copy_(kept[name])
        optimizers = [getattr(optimizer, "optimizer", optimizer) for optimizer in trainer.strategy.optimizers]
        for optimizer, entry in zip(optimizers, common["optimizer_states"], strict=True):
            _restore(optimizer, entry)
        trainer.precision_plugin.load_state_dict(common["precision"])
        for name, state in common["callbacks"].items():
            if state and name in callbacks:
                callbacks[name].load_state_dict(state)
        self._set_global_step(trainer, module)
        return {"position": common["global_step"], "steps": self.steps, "same_order": self.same_order}

    def restore_random(self) -> bool:
        """Put back the random states of this rank; return whether there are any to go on with."""
        if self._own is None or not self.same_order:
            return False
        set_random_states(self._own["random"])
        return True

    def _set_global_step(self, trainer: Any, module: Any) -> None:
        # Lightning counts steps in its loops; tests hold these names in place.
        loop = trainer.fit_loop.epoch_loop
        if module.automatic_optimization:
            progress = loop.automatic_optimization.optim_progress.optimizer.step.total
        else:
            progress = loop.manual_optimization.optim_step_progress.total
        progress.ready = progress.completed = self._global_step
        loop._batches_that_stepped = self.steps

    def _load(self, name: str) -> Any:
        try:
            # Written by this package on this study's behalf, from the user's own module.
            return torch.load(self._path / name, map_location="cpu", weights_only=False)
        except Exception as error:  # whatever unpickling meets
            # With it the next attempt would fail as well; without, the trial is trained again.
            shutil.rmtree(self._path, ignore_errors=True)
            raise StateMissingError(f"the state in {self._path} cannot be read: {error}") from error


def _restore(optimizer: Any, entry: dict[str, Any]) -> None:
    fresh, held = optimizer.state_dict(), list(optimizer.param_groups)
    groups = []
    for own, kept in zip(fresh["param_groups"], entry["param_groups"], strict=True):
        if len(own["params"]) != len(kept["params"]):
            raise TaskError(
                f"the state of a branch point holds a group of {len(kept['params'])} parameters, and the module's "
                f"{type(optimizer).__name__} has {len(own['params'])}"
            )
        # Some optimizers keep what they have learned in their groups.
        groups.append({**own, **{key: value for key, value in kept.items() if key not in _LR_KEYS}})
    optimizer.load_state_dict({"state": entry["state"], "param_groups": groups})
    # Loading makes new groups, and the LR control holds the ones that it was given.
    for own, loaded in zip(held, optimizer.param_groups, strict=True):
        own.update(loaded)
    optimizer.param_groups = held
