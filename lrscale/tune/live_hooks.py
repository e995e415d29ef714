"""What happens during a run of a live module besides what happens during every trial."""

from __future__ import annotations

import copy
from typing import Any

import torch

from lrscale.errors import LrscaleError
from lrscale.training.hooks import TrialHooks


class LiveHooks(TrialHooks):
    """Hooks of a trial that begin with given optimizer states and can follow a metric of the training steps.

    Parameters
    ----------
    states : list of dict
        ``state_dict`` of each optimizer to begin with; empty for fresh optimizers.
    metric : str or None
        A value that is logged in training.
    **parts
        Those of `TrialHooks`.
    """

    def __init__(self, *, states: list[Any], metric: str | None, **parts: Any) -> None:
        super().__init__(**parts)
        self._states = states
        self._metric = metric
        self._values: list[torch.Tensor] = []
        self.logged: frozenset[str] = frozenset()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Load the optimizer states before the LR control takes hold of the groups."""
        if self._states:
            load_states([getattr(own, "optimizer", own) for own in trainer.strategy.optimizers], self._states)
        super().on_train_start(trainer, pl_module)

    def loss_of_forward(self, trainer: Any, outputs: Any) -> torch.Tensor | None:
        """Return the training loss of a forward, and keep the metric beside it."""
        if self._metric is not None:
            logged = trainer.callback_metrics
            if self._metric not in logged:
                raise LrscaleError(
                    f"monitor {self._metric} was not logged by the training step",
                    hint=f"logged there: {', '.join(sorted(logged)) or 'nothing'}",
                )
            self._values.append(torch.as_tensor(logged[self._metric]).detach().clone())
        return super().loss_of_forward(trainer, outputs)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the names of what training has logged."""
        del pl_module
        self.logged = frozenset(trainer.callback_metrics)

    def metrics(self, steps: int) -> list[float]:
        """Return the metric of the first steps: mean over micro-batches and ranks."""
        if not self._values:
            return []
        kept = self._values[: steps * self._forwards]
        means = torch.stack([value.float() for value in kept]).reshape(-1, self._forwards).mean(dim=1)
        if self._world_size > 1:
            torch.distributed.all_reduce(means)
            means /= self._world_size
        return [float(mean) for mean in means.tolist()]


def load_states(optimizers: list[Any], states: list[Any]) -> None:
    """Give fresh optimizers the moments and step counts of others, and nothing else: groups keep their settings.

    Raises
    ------
    LrscaleError
        When the parameters are not the same.
    """
    if len(optimizers) != len(states):
        raise LrscaleError(f"the Trainer has fitted {len(states)} optimizers, and the module makes {len(optimizers)}")
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        counts = [len(group["params"]) for group in groups]
        if counts != [len(group["params"]) for group in state["param_groups"]]:
            raise LrscaleError(
                "the optimizer state of the Trainer is of other parameter groups than the module makes now",
                hint="pass optimizer_state=False to begin with fresh optimizers",
            )
        # Loading keeps the tensors that it is given, and steps write to them.
        optimizer.load_state_dict({"state": copy.deepcopy(state["state"]), "param_groups": groups})
