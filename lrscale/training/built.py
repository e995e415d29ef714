"""A task that has been built: what every way in leads to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

from lrscale.training.flavour import Flavour


@final
@dataclass(slots=True, kw_only=True)
class BuiltTask:
    """A module, its data, and what the user said of the Trainer."""

    module: Any
    """The LightningModule."""
    datamodule: Any | None = None
    """The LightningDataModule, if there is one."""
    train_loader: Any | None = None
    """A loader (or a list or dict of them), where the data are neither in a data module nor in the module."""
    val_loader: Any | None = None
    """The same for validation."""
    flavour: Flavour
    trainer_class: Any
    """The Trainer class to use; a LightningCLI may bring its own."""
    trainer_config: dict[str, Any] = field(default_factory=dict)
    """The user's Trainer arguments, objects already built."""
    batch_size_home: str = ""
    """Where the per-device batch size was set, as a path; empty when only the loader knows it."""
    batch_size_named: bool = False
    """Whether the user named that place, or wrote the factory that takes it, so that it holds whatever loaders do."""
    lr_home: str = ""
    """Where the task was told the peak LR, as a path; empty when it was not told."""
    own_batch_size: int | None = None
    """The per-device batch size that the task had of itself; validation keeps it."""
