"""How a global batch is formed, and on how many devices."""

from __future__ import annotations

from lrscale.errors import LayoutError
from lrscale.recipe import Recipe
from lrscale.recipe.experiments import Target
from lrscale.recommend.measured import Speeds
from lrscale.recommend.words import count
from lrscale.units import Layout, split_global_batch

WORTHWHILE = 1.05
"""Ratio of speeds, or of costs, from which on a measured layout replaces the default one; below it is noise."""


def layout_for(recipe: Recipe, batch_size: int, speeds: Speeds) -> tuple[Layout, str | None]:
    """Return how to form a global batch on the recipe's devices, and why when a measurement decided it.

    No forward is larger than the memory probes and the recipe allow; where neither says anything, than the largest that
    a trial has run. For the objective ``cost`` on fewer of the devices, where the throughput experiment timed them and
    an example then takes less time of devices.

    Raises
    ------
    LayoutError
        When the devices cannot form it.
    """
    layout, reason = _layout_on(recipe, batch_size, speeds, recipe.layout.devices, recipe.layout.num_nodes)
    if (recipe.target or Target()).objective != "cost" or layout.world_size == 1:
        return layout, reason
    usual = speeds.timed(layout)
    timed = [
        (split.world_size / speed, split, speed)
        for devices, num_nodes in speeds.places
        if devices * num_nodes < layout.world_size
        and (split := _split_on(recipe, batch_size, speeds, devices, num_nodes)) is not None
        and (speed := speeds.timed(split)) is not None
    ]
    if usual is None or not timed:
        untold = f"Whether fewer than {layout.world_size} devices cost less was not timed: run experiments.throughput."
        return layout, " ".join(filter(None, (reason, untold)))
    price, split, speed = min(timed, key=lambda one: one[0])
    saved = 1 - price / (layout.world_size / usual)
    if 1 / (1 - saved) < WORTHWHILE:
        return layout, reason
    return split, (
        f"{count(split.world_size)} of {layout.world_size} devices take{'s' if split.world_size == 1 else ''} "
        f"{100 * saved:.0f} % fewer device-hours and {usual / speed:.2g} x the time, as measured."
    )


def _split_on(recipe: Recipe, batch_size: int, speeds: Speeds, devices: int, num_nodes: int) -> Layout | None:
    try:
        return _layout_on(recipe, batch_size, speeds, devices, num_nodes)[0]
    except LayoutError:
        return None


def _layout_on(
    recipe: Recipe, batch_size: int, speeds: Speeds, devices: int, num_nodes: int
) -> tuple[Layout, str | None]:
    settings = recipe.layout
    fixed = settings.per_device_batch_size
    bound = min((size for size in (settings.max_per_device_batch_size, speeds.fits) if size), default=None)
    if bound is None and fixed is None:
        bound = speeds.largest_forward
    too_large = fixed is not None and bound is not None and fixed > bound
    default = split_global_batch(
        batch_size,
        devices=devices,
        num_nodes=num_nodes,
        per_device_batch_size=None if too_large else fixed,
        max_per_device_batch_size=bound,
    )
    if too_large:
        return (
            default,
            f"{fixed} per device do not fit within the memory: {speeds.fits} is the largest tested that does.",
        )
    if fixed is not None:
        return default, None
    fastest = speeds.fastest_split(default, bound)
    usual = speeds.timed(default)
    if fastest is None or usual is None or fastest[1] < WORTHWHILE * usual:
        return default, _bound_by(default, speeds, bound)
    split, speed = fastest
    return split, (
        f"{split.per_device_batch_size} per device x {split.accumulate} is {speed / usual - 1:+.0%} faster than "
        f"{default.per_device_batch_size} per device x {default.accumulate}, as measured."
    )


def _bound_by(layout: Layout, speeds: Speeds, bound: int | None) -> str | None:
    if bound is None or layout.global_batch_size // layout.world_size <= bound:
        return None
    accumulated = f"so that {layout.accumulate} forwards accumulate"
    if bound == speeds.fits:
        return f"At most {bound} per device fit within the memory, as probed, {accumulated}."
    if bound == speeds.largest_forward:
        return f"No trial ran more than {bound} per device, {accumulated}; experiments.memory would find how many fit."
    return None
