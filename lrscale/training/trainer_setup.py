"""The Trainer of a trial: the user's settings where they shape training, ours where they are about running it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lrscale.training.flavour import Flavour
from lrscale.units import Layout

NOT_KEPT = frozenset(
    {
        "barebones",
        "check_val_every_n_epoch",
        "default_root_dir",
        "enable_checkpointing",
        "enable_model_summary",
        "enable_progress_bar",
        "fast_dev_run",
        "limit_predict_batches",
        "limit_test_batches",
        "limit_train_batches",
        "log_every_n_steps",
        "logger",
        "max_epochs",
        "max_steps",
        "max_time",
        "min_epochs",
        "min_steps",
        "num_sanity_val_steps",
        "overfit_batches",
        "profiler",
        "val_check_interval",
    }
)
"""Trainer arguments that a trial decides itself; what is not named here is the user's."""
TOLD = frozenset({"limit_train_batches", "overfit_batches", "fast_dev_run", "accumulate_grad_batches"})
"""Of those, the ones whose loss is said: they change what is trained."""
DROPPED_CALLBACKS = (
    "callbacks.Checkpoint",
    "callbacks.EarlyStopping",
    "callbacks.LearningRateMonitor",
    "callbacks.LearningRateFinder",
    "callbacks.BatchSizeFinder",
    "callbacks.DeviceStatsMonitor",
    "callbacks.ModelSummary",
    "callbacks.ProgressBar",
    "cli.SaveConfigCallback",
    "callbacks.GradientAccumulationScheduler",
    "callbacks.Timer",
)
"""Callbacks that would end a trial, write files or change what a trial sets; all others are kept."""


UNMISSED = frozenset({"ModelSummary", "TQDMProgressBar", "RichProgressBar", "SaveConfigCallback"})
"""Of those, the ones that Lightning puts in by itself and that change nothing."""


def trainer_arguments(
    config: Mapping[str, Any],
    flavour: Flavour,
    *,
    layout: Layout,
    accelerator: str,
    horizon: int,
    manual: bool,
    validate_every: int | None,
    scratch: Path,
    callbacks: Sequence[Any],
) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of a trial's Trainer, and sentences about what of the user's is not kept.

    Parameters
    ----------
    config : mapping
        The user's Trainer arguments, objects built.
    flavour : Flavour
        Package that callbacks and loggers come from.
    layout : Layout
        Devices and accumulation.
    accelerator : {"cpu", "gpu"}
        Where it runs.
    horizon : int
        Optimizer steps.
    manual : bool
        Whether the module steps its optimizers itself, so that Lightning must not accumulate for it.
    validate_every : int or None
        Steps between validations; 0 at the end only, None never.
    scratch : Path
        Folder for anything that Lightning wants to write.
    callbacks : sequence of Callback
        The trial's own, before the user's.
    """
    notes = [
        f"trainer.{key} is not kept: a trial sets its own length and batches"
        for key in sorted(TOLD & {key for key, value in config.items() if value not in (None, 0, 0.0, 1, 1.0, False)})
    ]
    kept = {key: value for key, value in config.items() if key not in NOT_KEPT and value is not None}
    users = kept.pop("callbacks", None) or []
    users, dropped = sort_callbacks(users if isinstance(users, list) else [users], flavour)
    notes += [f"callback {name} does not run in trials" for name in dropped if name not in UNMISSED]
    forwards = layout.accumulate
    ours: dict[str, Any] = {
        "accelerator": accelerator,
        "devices": layout.devices,
        "num_nodes": layout.num_nodes,
        "accumulate_grad_batches": 1 if manual else forwards,
        "max_steps": horizon,
        "max_epochs": None,
        "check_val_every_n_epoch": None,
        "val_check_interval": (validate_every or horizon) * forwards,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": silent_logger(flavour, scratch),
        "log_every_n_steps": 1_000_000_000,
        "use_distributed_sampler": False,
        "default_root_dir": str(scratch),
        "callbacks": [*callbacks, *users],
    }
    if validate_every is None:
        ours["limit_val_batches"] = 0
    strategy = kept.get("strategy", "auto")
    if strategy == "auto" and layout.world_size > 1:
        strategy = "ddp"
    if isinstance(strategy, str) and strategy.startswith("ddp"):
        # The ranks are there already: nothing is to be spawned, and one rank alone needs no DDP.
        strategy = re.sub("^ddp_(spawn|fork|notebook)", "ddp", strategy) if layout.world_size > 1 else "auto"
    return {**kept, **ours, "strategy": strategy}, notes


def silent_logger(flavour: Flavour, folder: Path) -> Any:
    """Return a logger that takes everything, keeps nothing, and names a folder to those that write files beside it."""
    base = flavour.get("loggers.logger.DummyLogger")
    place = property(lambda self: str(folder))
    return type("SilentLogger", (base,), {"save_dir": place, "root_dir": place, "log_dir": place})()


def sort_callbacks(callbacks: list[Any], flavour: Flavour) -> tuple[list[Any], list[str]]:
    """Return the callbacks that run in trials, and the names of those that do not."""
    unwanted = []
    for path in DROPPED_CALLBACKS:
        try:
            unwanted.append(flavour.get(path))
        except (AttributeError, ModuleNotFoundError):
            continue  # An older Lightning without that callback.
    kept = [callback for callback in callbacks if not isinstance(callback, tuple(unwanted))]
    dropped = [type(callback).__name__ for callback in callbacks if isinstance(callback, tuple(unwanted))]
    return kept, dropped


def settle_length(trainer: Any, horizon: int, forwards: int, epochs: Callable[[], int | None] = lambda: None) -> None:
    """Give the fit loop as many epochs as the horizon takes.

    Modules build schedulers from ``trainer.max_epochs`` and ``estimated_stepping_batches``; an unbounded Trainer breaks
    several of them. A stream whose length is not known counts as one epoch.
    """
    trainer.fit_loop.setup_data()
    batches = trainer.fit_loop.max_batches
    endless = batches == float("inf")
    known = epochs()
    if known is not None:
        trainer.fit_loop.max_epochs = known
        return
    trainer.fit_loop.max_epochs = 1 if endless else max(1, -(-horizon * forwards // max(1, int(batches))))
