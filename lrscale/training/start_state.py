"""Begins a trial from the state that a Lightning checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import torch

from lrscale.errors import TaskError
from lrscale.store import StartState
from lrscale.store.files import content_hash


@final
class StartLoader:
    """Puts weights, buffers and optimizer state of a checkpoint in place of fresh ones.

    Learning rates and the other settings of the optimizers stay those of the module, and so do its schedulers, the
    order of examples and the random state: a trial asks what happens from this state under its own schedule. States of
    callbacks and loops are not restored.

    Parameters
    ----------
    start : StartState
        The file, and what its content must be.
    root : Path
        Folder that its path is relative to.
    """

    def __init__(self, start: StartState, root: Path) -> None:
        self._start = start
        self._path = root / start.path

    def load(self, module: Any, optimizers: Iterable[Any]) -> dict[str, Any]:
        """Load the state into a module and its optimizers, in place, and return the facts about it.

        Raises
        ------
        TaskError
            When the file is not there, is not the one that was planned with, is no Lightning checkpoint, or does not
            fit the module or its optimizers.
        """
        state = self._read()
        module.on_load_checkpoint(state)
        try:
            module.load_state_dict(state["state_dict"], strict=getattr(module, "strict_loading", True))
        except RuntimeError as error:
            raise TaskError(f"{self._path.name} does not fit {type(module).__name__}: {error}") from error
        saved = state.get("optimizer_states") or []
        own = [getattr(optimizer, "optimizer", optimizer) for optimizer in optimizers]
        if saved:
            if len(saved) != len(own):
                raise TaskError(
                    f"{self._path.name} holds the state of {len(saved)} optimizers, and the module has {len(own)}"
                )
            for optimizer, entry in zip(own, saved, strict=True):
                self._restore(optimizer, entry)
        return {"sha256": self._start.sha256, "step": state.get("global_step"), "optimizer_states": len(saved)}

    def _read(self) -> dict[str, Any]:
        try:
            digest = content_hash(self._path)
        except OSError as error:
            raise TaskError(
                f"the checkpoint {self._start.path} cannot be read: {error.strerror}",
                hint="its path is relative to the recipe",
            ) from error
        if digest != self._start.sha256:
            raise TaskError(
                f"the checkpoint {self._start.path} has changed since the trial was planned",
                hint="run the command again: the new file makes new trials",
            )
        try:
            # Checkpoints of Lightning hold hyperparameters of any class. The file is the user's own, as the module is.
            state = torch.load(self._path, map_location="cpu", weights_only=False)
        except Exception as error:  # whatever unpickling meets
            raise TaskError(f"the checkpoint {self._start.path} cannot be loaded: {error}") from error
        if not isinstance(state, dict) or "state_dict" not in state:
            raise TaskError(
                f"{self._start.path} is no Lightning checkpoint: it has no state_dict",
                hint="use a file that Trainer.save_checkpoint or ModelCheckpoint wrote",
            )
        return state

    def _restore(self, optimizer: Any, entry: dict[str, Any]) -> None:
        fresh = optimizer.state_dict()
        counts = [[len(group["params"]) for group in one["param_groups"]] for one in (fresh, entry)]
        if counts[0] != counts[1]:
            raise TaskError(
                f"{self._path.name} holds the state of a {type(optimizer).__name__} with groups of {counts[1]} "
                f"parameters, and the module's has {counts[0]}"
            )
        optimizer.load_state_dict({"state": entry["state"], "param_groups": fresh["param_groups"]})
