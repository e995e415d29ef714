"""The Lightning callback that ties a trial's parts to the course of a fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lrscale.training.batches import hash_batch
from lrscale.training.companion_control import CompanionControl
from lrscale.training.flavour import Flavour
from lrscale.training.lr_control import LRControl
from lrscale.training.methods import replace_method
from lrscale.training.monitor import loss_of
from lrscale.training.optimizers.replace import has_modes, switch_mode
from lrscale.training.random_states import random_states, set_random_states
from lrscale.training.recorder import Recorder
from lrscale.training.seeding import seed_rank
from lrscale.training.sizes import parameter_counts, sequence_length
from lrscale.training.start_state import StartLoader
from lrscale.training.trainer_setup import settle_length, sort_callbacks

_TRAINING_LOSSES = ("train_loss", "loss", "train/loss", "training_loss", "train_loss_step")
"""Names under which modules log a training loss that they do not return."""


class TrialHooks:
    """What happens at each hook; `make_callback` gives it the base class of the module's own flavour.

    Parameters
    ----------
    control : LRControl
        Sets the LR before each step.
    companions : CompanionControl
        Sets what moves with the batch size besides the LR.
    recorder : Recorder
        Takes losses and validations.
    horizon : int
        Optimizer steps.
    forwards : int
        Forwards (micro-batches) per step on this rank.
    world_size, rank : int
        Number of ranks, and this one.
    seed : int
        Seed of the trial.
    per_device_batch_size : int
        Examples of a forward, for what is said of batches.
    validate_every : int or None
        Steps between validations; 0 at the end only, None never.
    start : StartLoader or None, optional
        Puts the state of a checkpoint in place before the first step. Default None.
    """

    def __init__(
        self,
        *,
        control: LRControl,
        companions: CompanionControl,
        recorder: Recorder,
        horizon: int,
        forwards: int,
        world_size: int,
        rank: int,
        seed: int,
        per_device_batch_size: int,
        validate_every: int | None,
        start: StartLoader | None = None,
    ) -> None:
        self._control = control
        self._companions = companions
        self._recorder = recorder
        self._horizon = horizon
        self._forwards = forwards
        self._world_size = world_size
        self._rank = rank
        self._seed = seed
        self._per_device_batch_size = per_device_batch_size
        self._validate_every = validate_every
        self._start = start
        self._new_step = True
        self._global_step = 0
        self._compared = False
        self._losses: list[torch.Tensor] = []
        self._random: dict[str, Any] = {}
        self._automatic = True
        self.facts: dict[str, Any] = {}
        self.notes: list[str] = []
        self.in_training_step = False

    @property
    def position(self) -> int:
        """Place in training by which the schedule goes."""
        return self._recorder.steps

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take hold of the optimizers, which exist from here on, and of the moments of validation."""
        self._automatic = bool(pl_module.automatic_optimization)
        if not self._automatic:
            # Such a module may step several optimizers a batch, and each counts; the trial ends by batches instead.
            trainer.fit_loop.epoch_loop.max_steps = -1
        endless = trainer.num_training_batches == float("inf")
        epochs = None if endless else trainer.fit_loop.max_epochs
        if endless:
            # A stream that ends before the trial does is begun again; each pass brings one batch at the least.
            trainer.fit_loop.max_epochs = self._horizon * self._forwards
        if self._start is not None:
            self.facts["start"] = self._start.load(pl_module, trainer.strategy.optimizers)
        strategy = trainer.strategy
        switch_mode(strategy.optimizers, "train")
        self.facts.update(self._control.attach(strategy.optimizers, strategy.lr_scheduler_configs, epochs))
        self.facts.update(self._companions.attach(trainer.strategy.optimizers))
        self.facts.update(parameter_counts(pl_module))
        self._look_for_batch_norm(pl_module, strategy.optimizers)
        self._time_validation(trainer, pl_module)
        seed_rank(self._seed, self._rank)
        self._recorder.begin(pl_module.device)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the LR of the step."""
        del pl_module, batch_idx
        if not self._compared:
            self._compared = True
            self._compare_ranks(trainer, batch)
            length = sequence_length(batch)
            if length is not None:
                self.facts["sequence_length"] = length
        if self._new_step:
            self._new_step = False
            self._recorder.lr = self._control.before_step(self.position)
        self.in_training_step = True

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Have the last word on the LR."""
        del trainer, pl_module, optimizer
        self._control.reassert()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the loss; the last forward of a step completes it."""
        del pl_module, batch, batch_idx
        self.in_training_step = False
        loss = self.loss_of_forward(trainer, outputs)
        if loss is not None:
            self._losses.append(loss.detach())
        if not self._completes_step(trainer):
            return
        self._new_step = True
        losses, self._losses = self._losses, []
        self._recorder.add_step(losses)
        if self._recorder.steps >= self._horizon:
            trainer.should_stop = True

    def loss_of_forward(self, trainer: Any, outputs: Any) -> torch.Tensor | None:
        """Return the training loss of a forward: what the step returned, else what it logged, else None."""
        loss: torch.Tensor | None = loss_of(outputs)
        if loss is None:
            return _logged_loss(trainer)
        # Lightning hands back the loss divided by the accumulation.
        return loss * self._forwards if self._forwards > 1 else loss

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock, and have an optimizer that averages its weights put the average in place."""
        del pl_module
        switch_mode(trainer.strategy.optimizers, "eval")
        self._recorder.begin_validation()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep what the step returned, and what the first batch was."""
        del trainer, pl_module
        if dataloader_idx == 0:
            if batch_idx == 0 and "validation_hash" not in self.facts:
                self.facts["validation_hash"] = f"{hash_batch(batch):016x}"
            self._recorder.add_validation_batch(outputs, batch_idx)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the monitored loss. How often a trial validates does not move the random numbers that it trains with."""
        del pl_module
        switch_mode(trainer.strategy.optimizers, "train")
        set_random_states(self._random)
        self._recorder.end_validation(validation_metrics(trainer))
        self._control.validated(*self._recorder.validations[-1])

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Tell the schedule."""
        del trainer, pl_module
        self._control.end_epoch()

    def closing_notes(self) -> list[str]:
        """Return every sentence about this trial that its hooks came upon."""
        return [*self.notes, *self._control.closing_notes(), *self._companions.notes]

    def after_batch(self, trainer: Any, module: Any) -> None:
        """Be told that a batch and all that the module does after it is over, before a validation begins."""

    def _completes_step(self, trainer: Any) -> bool:
        if self._forwards == 1:
            return True
        before, self._global_step = self._global_step, trainer.global_step
        return self._global_step != before

    def _validates_here(self, every: int) -> bool:
        steps = self._recorder.steps
        return steps == self._horizon or (every > 0 and steps % every == 0)

    def _time_validation(self, trainer: Any, module: Any) -> None:
        # Lightning counts batches, restarts at epochs and validates whenever a stream ends; a trial validates after
        # whole steps: at its cadence, and once at its end. `_should_check_val_fx` is private; tests hold it in place.
        loop, every = trainer.fit_loop.epoch_loop, self._validate_every

        def due(data_fetcher: Any) -> bool:
            del data_fetcher
            self.after_batch(trainer, module)
            if not self._new_step or every is None or self._recorder.steps == 0 or not self._validates_here(every):
                return False
            # The iterator of a loader draws from the generators when it is made.
            self._random = random_states()
            return bool(loop._should_check_val_epoch())

        loop._should_check_val_fx = due

    def _compare_ranks(self, trainer: Any, batch: Any) -> None:
        if self._world_size < 2:
            return
        mine = torch.tensor(hash_batch(batch), device=trainer.strategy.root_device)
        hashes = [torch.zeros_like(mine) for _ in range(self._world_size)]
        torch.distributed.all_gather(hashes, mine)
        different = len({int(one) for one in hashes})
        if different < self._world_size and mine:
            self.facts["identical_batches"] = True
            size = self._per_device_batch_size * self._forwards
            self.notes.append(
                f"{self._world_size - different + 1} of {self._world_size} ranks saw the same first batch: the data "
                f"are not divided among the ranks, so the global batch is {different * size}, not "
                f"{self._world_size * size}"
            )

    def _look_for_batch_norm(self, module: Any, optimizers: Sequence[Any]) -> None:
        found = {type(part) for part in module.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)}
        names = sorted(kind.__name__ for kind in found - {torch.nn.SyncBatchNorm})
        if not names:
            return
        self.facts["batch_norm"] = True
        if has_modes(optimizers):
            self.notes.append(
                f"{', '.join(names)} validates with the statistics of the weights that train, not of their average"
            )
        if self._world_size * self._forwards > 1:
            self.notes.append(
                f"{', '.join(names)} takes its statistics over the {self._per_device_batch_size} examples of one "
                "forward, so the result depends on the layout"
            )


def make_callback(flavour: Flavour, hooks: type[TrialHooks] = TrialHooks, **parts: Any) -> Any:
    """Return `TrialHooks`, or a class that adds to them, as a callback of the module's own flavour."""
    kind = type("TrialCallback", (hooks, flavour.get("Callback")), {"state_key": "TrialCallback"})
    return kind(**parts)


def prepare_module(
    module: Any,
    trainer_of: Callable[[], Any],
    horizon: int,
    forwards: int,
    flavour: Flavour,
    notes: list[str],
    epochs: Callable[[], int | None] = lambda: None,
) -> None:
    """Have the fit loop know its length before the module builds its optimizers, and its callbacks sorted.

    Parameters
    ----------
    module : LightningModule
        Changed on the instance.
    trainer_of : callable
        Returns the Trainer once it is built.
    horizon, forwards : int
        Steps, and forwards of each on this rank.
    flavour : Flavour
        Package that callbacks come from.
    notes : list of str
        Gets a sentence for each callback that is dropped.
    epochs : callable, optional
        Returns how many epochs the trial reaches into, once its data are there. Default: as many as the horizon takes.
    """
    original = module.configure_optimizers

    def configure_optimizers() -> Any:
        settle_length(trainer_of(), horizon, forwards, epochs)
        return original()

    replace_method(module, "configure_optimizers", configure_optimizers)
    own_callbacks = module.configure_callbacks

    def configure_callbacks() -> Any:
        made = own_callbacks() or []
        kept, dropped = sort_callbacks(list(made) if isinstance(made, (list, tuple)) else [made], flavour)
        notes.extend(f"callback {name} does not run in trials" for name in dropped)
        return kept

    replace_method(module, "configure_callbacks", configure_callbacks)


def validation_metrics(trainer: Any) -> dict[str, Any]:
    """Return what validation logged.

    What training logged stays in ``callback_metrics``; the validation loop's own results tell which names are its.
    """
    results = getattr(trainer.fit_loop.epoch_loop.val_loop, "_results", None)
    metrics = dict(trainer.callback_metrics)
    if not results:
        return metrics
    own = {str(value.meta.name) for value in results.values() if hasattr(value, "meta")}
    return {name: value for name, value in metrics.items() if name.split("/dataloader_idx_")[0] in own} or metrics


def _logged_loss(trainer: Any) -> torch.Tensor | None:
    metrics = trainer.callback_metrics
    for name in _TRAINING_LOSSES:
        if name in metrics:
            return torch.as_tensor(metrics[name])
    found = [name for name in metrics if "loss" in name.lower() and "val" not in name.lower()]
    return torch.as_tensor(metrics[found[0]]) if len(found) == 1 else None
