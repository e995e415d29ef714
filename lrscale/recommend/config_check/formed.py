"""The global batch that a launch config forms, and its split over devices and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from lrscale.recipe import Recipe
from lrscale.recommend.config_check.config import LaunchConfig, Number


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Formed:
    """A batch as the job forms it; None for what is not known."""

    global_batch_size: int | None
    """Examples of one optimizer step."""
    per_device_batch_size: int | None
    accumulate: int | None
    devices: int
    num_nodes: int
    stated: bool
    """Whether the config states the global batch size itself, so that the split may contradict it."""
    key: str | None
    """Where the batch size was found."""
    assumed: tuple[str, ...] = ()
    """What was taken from elsewhere, in words."""

    @property
    def ranks(self) -> int:
        """Devices of all nodes."""
        return self.devices * self.num_nodes


def form(config: LaunchConfig, recipe: Recipe, facts: Mapping[str, Any]) -> Formed:
    """Return the batch of a job.

    Parameters
    ----------
    config : LaunchConfig
    recipe : Recipe
        Its devices stand in where the config leaves them to the machine.
    facts : mapping
        What a trial found out about the data: ``own_batch_size`` is the class's default where the recipe states none.
    """
    assumed = []
    devices, num_nodes = _whole(config.devices), _whole(config.num_nodes) or 1
    if devices is None:
        devices = recipe.layout.devices
        assumed.append(f"{devices} devices as in the study")
    per_device, key = _whole(config.per_device_batch_size), None
    if per_device is not None and config.per_device_batch_size is not None:
        key = config.per_device_batch_size.key
    total, accumulate = _whole(config.global_batch_size), _whole(config.accumulate)
    if per_device is None and total is None:
        per_device = _default(config, recipe, facts)
        if per_device is not None:
            key = "the default of the data"
            assumed.append(f"{per_device} per device, the default of the data")
    stated = total is not None
    if total is None and per_device is not None:
        accumulate = accumulate or 1
        total = per_device * accumulate * devices * num_nodes
    if config.global_batch_size is not None:
        key = config.global_batch_size.key
    return Formed(
        global_batch_size=total,
        per_device_batch_size=per_device,
        accumulate=accumulate,
        devices=devices,
        num_nodes=num_nodes,
        stated=stated,
        key=key,
        assumed=tuple(assumed),
    )


def _default(config: LaunchConfig, recipe: Recipe, facts: Mapping[str, Any]) -> int | None:
    data = recipe.task.data
    if data is None or config.classes.get("data") != data.class_path:
        return None
    own = facts.get("own_batch_size")
    stated = any("batch" in name for name in data.init_args)
    return own if isinstance(own, int) and not stated else None


def _whole(number: Number | None) -> int | None:
    return None if number is None or number.value != int(number.value) else int(number.value)
