"""What a Trainer says about how to train, read without touching it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import torch

from lrscale.errors import LrscaleError
from lrscale.training.flavour import Flavour

_TRUE_PRECISIONS = {"Precision": "32-true", "DoublePrecision": "64-true"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSettings:
    """How the runs of a range test train; the Trainer that it was read from keeps all its parts to itself."""

    accelerator: str
    """As ``Trainer(accelerator=...)`` takes it."""
    devices: int
    """Ranks of this node."""
    device_list: Any = None
    """Which devices, where the Trainer chose among several."""
    num_nodes: int = 1
    accumulate: int = 1
    """Forwards of an optimizer step on each device."""
    config: dict[str, Any] = field(default_factory=dict)
    """Arguments of a Trainer that may be used again and again."""
    parts: Callable[[], dict[str, Any]] = dict
    """Makes those that belong to one Trainer only, fresh."""
    notes: tuple[str, ...] = ()

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.devices * self.num_nodes


def read_settings(trainer: Any | None, flavour: Flavour) -> TrainerSettings:
    """Return how a Trainer trains; without one, how a plain Trainer would in this process.

    Precision, loss scaler, accelerator, devices, nodes, strategy, accumulation, clipping, synchronised batch norm,
    anomaly detection and the share of validation batches are read. Its callbacks and loggers do not run.

    Parameters
    ----------
    trainer : Trainer or None
        Never changed. Without one: one device of the best kind there is, or, in a process of a group (torchrun), DDP
        over the whole group.
    flavour : Flavour
        Package that the module comes from.

    Raises
    ------
    LrscaleError
        When the Trainer is of the other package, shards the model, or wants ranks that do not run.
    """
    if trainer is None:
        return _plain_settings()
    if not isinstance(trainer, flavour.get("Trainer")):
        raise LrscaleError(
            f"trainer is a {type(trainer).__module__}.{type(trainer).__qualname__}, and the module comes from "
            f"{flavour.package}",
            hint=f"pass a Trainer of {flavour.package}",
        )
    strategy, world = trainer.strategy, trainer.num_devices * trainer.num_nodes
    single = isinstance(strategy, flavour.get("strategies.SingleDeviceStrategy"))
    if not single and not isinstance(strategy, flavour.get("strategies.DDPStrategy")):
        raise LrscaleError(
            f"the Trainer uses {type(strategy).__name__}; a range test of a live module knows single devices and DDP",
            hint="pass a Trainer with strategy='auto' or 'ddp', of a model that fits on one device",
        )
    _require_ranks(strategy, world)
    config: dict[str, Any] = {
        "gradient_clip_val": trainer.gradient_clip_val,
        "gradient_clip_algorithm": getattr(trainer.gradient_clip_algorithm, "value", trainer.gradient_clip_algorithm),
        "sync_batchnorm": getattr(strategy, "_layer_sync", None) is not None,
        "detect_anomaly": getattr(trainer, "_detect_anomaly", False),
        "limit_val_batches": trainer.limit_val_batches,
    }
    names = sorted({type(callback).__name__ for callback in trainer.callbacks})
    own = [name for name in names if name not in _OF_EVERY_TRAINER]
    return TrainerSettings(
        accelerator=_accelerator(trainer),
        devices=trainer.num_devices,
        device_list=list(trainer.device_ids) if strategy.root_device.type == "cuda" else None,
        num_nodes=trainer.num_nodes,
        accumulate=trainer.accumulate_grad_batches,
        # A share of 0 is that of a fit which is not to wait for validation; runs at fixed LR are compared by it.
        config={name: value for name, value in config.items() if value not in (None, False)},
        parts=lambda: _fresh_parts(trainer, flavour, single),
        notes=(f"the Trainer's callbacks do not run: {', '.join(own)}",) if own else (),
    )


_OF_EVERY_TRAINER = frozenset({"ModelCheckpoint", "ModelSummary", "TQDMProgressBar", "RichProgressBar"})


def _plain_settings() -> TrainerSettings:
    kind = "gpu" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        world = torch.distributed.get_world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    return TrainerSettings(
        accelerator=kind,
        devices=local,
        num_nodes=world // local,
        parts=lambda: {"strategy": "ddp" if world > 1 else "auto"},
    )


def _require_ranks(strategy: Any, world: int) -> None:
    if world == 1 or (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    environment = getattr(strategy, "cluster_environment", None)
    if environment is None or not environment.creates_processes_externally:
        raise LrscaleError(
            f"the Trainer wants {world} ranks and would start the others itself; a range test starts no process",
            hint=f"start this script with torchrun --nproc-per-node {world}, or pass a Trainer with devices=1",
        )


def _accelerator(trainer: Any) -> str:
    kind = str(trainer.strategy.root_device.type)
    return "gpu" if kind == "cuda" else kind


def _fresh_parts(trainer: Any, flavour: Flavour, single: bool) -> dict[str, Any]:
    strategy, plugins = trainer.strategy, []
    parts: dict[str, Any] = {"strategy": "auto"}
    if not single:
        settings = {"process_group_backend": "_process_group_backend", "start_method": "_start_method"}
        settings |= {name: f"_{name}" for name in ("ddp_comm_hook", "ddp_comm_wrapper")}
        known = {name: getattr(strategy, kept, None) for name, kept in settings.items()}
        parts["strategy"] = flavour.get("strategies.DDPStrategy")(
            **{name: value for name, value in known.items() if value is not None}, **strategy._ddp_kwargs
        )
        plugins.append(strategy.cluster_environment)
    plugin = trainer.precision_plugin
    name = type(plugin).__name__
    if name in _TRUE_PRECISIONS:
        parts["precision"] = _TRUE_PRECISIONS[name]
    elif name == "HalfPrecision":
        parts["precision"] = plugin.precision
    elif name == "MixedPrecision":
        plugins.append(type(plugin)(plugin.precision, plugin.device, _fresh_scaler(plugin.scaler)))
    else:
        plugins.append(copy.deepcopy(plugin))
    return {**parts, "plugins": plugins} if plugins else parts


def _fresh_scaler(scaler: Any) -> Any:
    if scaler is None:
        return None
    return torch.amp.GradScaler(
        device=scaler._device,
        init_scale=scaler.get_scale(),
        growth_factor=scaler.get_growth_factor(),
        backoff_factor=scaler.get_backoff_factor(),
        growth_interval=scaler.get_growth_interval(),
        enabled=scaler.is_enabled(),
    )
