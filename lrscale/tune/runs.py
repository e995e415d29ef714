"""Short runs of a live module that all begin where it stands."""

from __future__ import annotations

import gc
import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.errors import LrscaleError
from lrscale.schedules import AbstractSchedule
from lrscale.training.companion_control import CompanionControl
from lrscale.training.divergence import DivergenceWatch
from lrscale.training.failure import describe_failure
from lrscale.training.flavour import Flavour
from lrscale.training.hooks import make_callback, prepare_module
from lrscale.training.lr_control import LRControl
from lrscale.training.recorder import Recorder
from lrscale.training.stop import TrialStopped
from lrscale.training.trainer_setup import trainer_arguments
from lrscale.training.trial import fit
from lrscale.tune.kept import Kept
from lrscale.tune.live_data import LiveData
from lrscale.tune.live_hooks import LiveHooks
from lrscale.tune.trainer_settings import TrainerSettings
from lrscale.units import Layout

MOST_STEPS_AN_EXCHANGE = 8
"""A run that has diverged goes on for so many steps at most; fewer would have a device wait more often."""
SCALER_TOLERANCE = 3
"""Losses in a row that a loss scaler may skip; each halves the scale, and weights that have left stay away."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What one run gave, equal on all ranks."""

    lrs: tuple[float, ...]
    """LR of the reference group at each step that was done."""
    losses: tuple[float | None, ...]
    """Training loss of each: mean over micro-batches and ranks; None where a step brought none."""
    metrics: tuple[float, ...]
    """The logged training metric of each step, where one was asked for."""
    validations: tuple[tuple[int, float], ...]
    """Steps done and the validated value."""
    diverged: str | None
    """Why the run counts as diverged, or None."""
    final_loss: float | None
    """Validated at the end, else the mean over the last tenth of the steps; None when diverged."""
    initial_train_loss: float
    """Mean training loss of the first steps; NaN before the first."""
    final_train_loss: float | None
    """Mean training loss over the last tenth of the steps."""
    monitor: str
    """What `final_loss` is of."""
    beta2: float | None
    """Adam's, of the group whose LR is moved."""
    logged: frozenset[str]
    """Names that training has logged."""
    notes: tuple[str, ...]


@final
class LiveRuns:
    """Trains a live module in short runs and puts it back after each.

    Parameters
    ----------
    module : LightningModule
        Used, and put back to the bit.
    data : LiveData
        Its data, kept by the caller.
    settings : TrainerSettings
        How to train.
    flavour : Flavour
        Package of the module.
    kept : Kept
        What to put back after each run: the module, and loaders that are not a data module's.
    optimizer : int or None
        The optimizer whose LR is moved; None: all, in proportion.
    optimizer_states : list of dict, optional
        State of each optimizer at the start of every run. Default: empty, for fresh ones.
    """

    def __init__(
        self,
        module: Any,
        data: LiveData,
        settings: TrainerSettings,
        flavour: Flavour,
        kept: Kept,
        *,
        optimizer: int | None,
        optimizer_states: list[Any],
    ) -> None:
        self._module = module
        self._data = data
        self._settings = settings
        self._flavour = flavour
        self._optimizer = optimizer
        self._states = optimizer_states
        self._kept = kept
        plugins = settings.parts().get("plugins", [])
        self._has_scaler = any(getattr(plugin, "scaler", None) is not None for plugin in plugins)
        self.automatic = bool(module.automatic_optimization)
        self.rank = 0

    def discover(self) -> None:
        """Set up what has to be, and find out how large batches are."""
        folder = Path(tempfile.mkdtemp(prefix="lrscale-"))
        layout = Layout(per_device_batch_size=1, devices=self._settings.devices, num_nodes=self._settings.num_nodes)
        try:
            trainer = self._trainer(layout, horizon=1, validate_every=None, folder=folder, callbacks=[])
            self.rank = int(trainer.global_rank)
            self._data.discover(lambda built: fit(trainer, built))
        finally:
            self._put_back(folder)

    def run(
        self,
        *,
        schedule: AbstractSchedule,
        peak_lr: float,
        horizon: int,
        seed: int,
        layout: Layout,
        validate_every: int | None,
        monitor: str | None = None,
        metric: str | None = None,
        patience: int | None = None,
    ) -> RunOutcome:
        """Train from the kept state.

        Parameters
        ----------
        schedule : AbstractSchedule
            Course of the LR.
        peak_lr : float
            LR of the reference group at factor 1.
        horizon : int
            Optimizer steps.
        seed : int
            Of the order of examples and of what the module draws.
        layout : Layout
            How a global batch is formed.
        validate_every : int or None
            Steps between validations; 0 at the end only, None never.
        monitor : str or None, optional
            Validated value. Default None: the validation loss, found by its name.
        metric : str or None, optional
            Value that is logged in training and wanted for each step. Default None.
        patience : int or None, optional
            Of `DivergenceWatch`. Default None.

        Raises
        ------
        Exception
            What the module raised, where it is not divergence.
        """
        watch = DivergenceWatch(
            horizon=horizon, patience=patience, tolerated=SCALER_TOLERANCE if self._has_scaler else 0
        )
        recorder = Recorder(
            folder=None,
            rank=self.rank,
            world_size=layout.world_size,
            horizon=horizon,
            global_batch_size=layout.global_batch_size,
            watch=watch,
            stop_on_divergence=True,
            monitor=monitor,
            most_steps=MOST_STEPS_AN_EXCHANGE,
        )
        hooks = make_callback(
            self._flavour,
            LiveHooks,
            states=self._states,
            metric=metric,
            control=LRControl(schedule, peak_lr, horizon, optimizer=self._optimizer),
            companions=CompanionControl(),
            recorder=recorder,
            horizon=horizon,
            forwards=layout.accumulate,
            world_size=layout.world_size,
            rank=self.rank,
            seed=seed,
            per_device_batch_size=layout.per_device_batch_size,
            validate_every=validate_every,
        )
        diverged: str | None = None
        folder = Path(tempfile.mkdtemp(prefix="lrscale-"))
        notes: list[str] = []
        try:
            with self._data.built(layout, self.rank, seed) as (built, data):
                every = validate_every if data.has_validation else None
                trainer = self._trainer(layout, horizon, every, folder, [hooks], notes)
                prepare_module(self._module, lambda: trainer, horizon, layout.accumulate, self._flavour, notes)
                data.on_validation_known = lambda sizes: setattr(recorder, "validation_sizes", sizes)
                try:
                    fit(trainer, built)
                    recorder.close()
                except TrialStopped as stopped:
                    diverged = stopped.reason
                except LrscaleError:
                    raise
                except Exception as error:
                    recorder.close()
                    failure = describe_failure(
                        error,
                        module=self._module,
                        hooks=hooks,
                        recorder=recorder,
                        watch=watch,
                        ranks=layout.world_size,
                    )
                    if failure.status != "diverged":
                        raise
                    diverged = failure.reason
            if diverged is None:
                diverged = watch.verdict_at_end()
            metrics = hooks.metrics(recorder.steps)
        finally:
            self._put_back(folder)
        validated = bool(recorder.validations)
        return RunOutcome(
            lrs=tuple(peak_lr * schedule.factor(step, horizon) for step in range(recorder.steps)),
            losses=tuple(_without_skipped(recorder.losses, diverged is not None)),
            metrics=tuple(metrics),
            validations=tuple(recorder.validations),
            diverged=diverged,
            final_loss=None if diverged is not None else recorder.final_loss(),
            initial_train_loss=watch.initial,
            final_train_loss=recorder.final_train_loss(),
            monitor=(recorder.monitor or "validation") if validated else "train_loss",
            beta2=hooks.facts.get("beta2"),
            logged=hooks.logged,
            notes=tuple(dict.fromkeys([*notes, *data.notes, *hooks.closing_notes(), *recorder.notes])),
        )

    def _trainer(
        self,
        layout: Layout,
        horizon: int,
        validate_every: int | None,
        folder: Path,
        callbacks: list[Any],
        notes: list[str] | None = None,
    ) -> Any:
        arguments, told = trainer_arguments(
            {**self._settings.config, **self._settings.parts()},
            self._flavour,
            layout=layout,
            accelerator=self._settings.accelerator,
            horizon=horizon,
            manual=not self.automatic,
            validate_every=validate_every,
            scratch=folder,
            callbacks=callbacks,
        )
        if self._settings.device_list is not None:
            arguments["devices"] = self._settings.device_list
        if notes is not None:
            notes += told
        for parameter in self._module.parameters():
            # The gradients at the start belong to the user; runs make their own.
            parameter.grad = None
        return self._flavour.get("Trainer")(**arguments)

    def _put_back(self, folder: Path) -> None:
        self._kept.restore()
        shutil.rmtree(folder, ignore_errors=True)
        if self._settings.world_size > 1:
            # A reducer of DDP hangs on the parameters until it is collected.
            gc.collect()


def _without_skipped(losses: list[float | None], diverged: bool) -> list[float | None]:
    """Return losses in which steps that a loss scaler skipped are gaps; the end of a run that diverged is none."""
    end = len(losses)
    while diverged and end and (last := losses[end - 1]) is not None and not math.isfinite(last):
        end -= 1
    return [loss if at >= end or loss is None or math.isfinite(loss) else None for at, loss in enumerate(losses)]
