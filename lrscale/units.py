"""Lengths of training and batch sizes, each with its unit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, cast, final

from lrscale.errors import LayoutError, LrscaleError

Unit = Literal["steps", "examples", "epochs", "tokens"]
UNITS: tuple[Unit, ...] = ("steps", "examples", "epochs", "tokens")

_EXPONENTS = {"": 0, "k": 3, "M": 6, "B": 9, "G": 9, "T": 12}
_MAX_VALUE = 10**18
_DURATION = re.compile(r"^\s*([0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([kMBG]?)\s*([a-z]+)\s*$")


def exact_number(digits: str, suffix: str = "") -> Decimal:
    """Return a number as people write it, exactly: 9007199254740993 and 1.1k have no exact float.

    Parameters
    ----------
    digits : str
        A number without sign, with or without fraction, exponent and underscores.
    suffix : {"", "k", "M", "B", "G", "T"}, optional
        What it is counted in; B and G are both 10^9. Default: ones.

    Examples
    --------
    >>> exact_number("1.1", "k") == 1100, exact_number("20_000") == 20000, exact_number("1e999999999")
    (True, True, Decimal('Infinity'))
    """
    try:
        return Decimal(digits.replace("_", "")).scaleb(_EXPONENTS[suffix])
    except ArithmeticError:
        return Decimal("Infinity")


def short_number(value: float) -> str:
    """Write a number with the suffix B, M or k that leaves at most one decimal of it, and else in full.

    Examples
    --------
    >>> short_number(20000), short_number(1.5e6), short_number(1234), short_number(2.5)
    ('20k', '1.5M', '1234', '2.5')
    """
    exact = Decimal(str(value))
    for suffix in ("B", "M", "k"):
        scaled = exact.scaleb(-_EXPONENTS[suffix])
        if scaled >= 1 and scaled == round(scaled, 1):
            return f"{scaled.normalize():f}{suffix}"
    return f"{exact.normalize():f}"


@final
@dataclass(frozen=True, slots=True)
class Duration:
    """A length of training.

    Parameters
    ----------
    value : int
        Positive number of units.
    unit : {"steps", "examples", "epochs", "tokens"}
        What is counted. A step is one optimizer step.

    Examples
    --------
    >>> Duration.parse("20k examples")
    Duration(value=20000, unit='examples')
    >>> Duration.parse("20k examples").steps(256)
    78
    """

    value: int
    unit: Unit

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise LrscaleError(f"unknown unit {self.unit!r}", hint=f"use one of {', '.join(UNITS)}")
        if self.value <= 0:
            raise LrscaleError(f"a duration must be positive, not {self.value} {self.unit}")

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read ``"200 steps"``, ``"40k examples"``, ``"1.5M tokens"`` or ``"1e6 examples"``.

        Raises
        ------
        LrscaleError
            When the text has no unit, an unknown one, or a value that is not a positive whole number.
        """
        match = _DURATION.match(str(text))
        if match is None:
            raise LrscaleError(f"{text!r} is not a duration", hint='write a number and a unit, such as "40k examples"')
        number, suffix, unit = match.groups()
        value = exact_number(number, suffix)
        unit = unit if unit in UNITS else f"{unit}s"
        if unit not in UNITS:
            raise LrscaleError(f"unknown unit in {text!r}", hint=f"use one of {', '.join(UNITS)}")
        if value > _MAX_VALUE:
            raise LrscaleError(f"{text!r} is longer than any training", hint=f"the bound is {_MAX_VALUE:.0e}")
        if value % 1:
            raise LrscaleError(f"{text!r} is not a whole number of {unit}")
        return cls(int(value), cast(Unit, unit))

    def steps(self, global_batch_size: int, *, dataset_size: int | None = None) -> int:
        """Return the number of optimizer steps at a global batch size, rounded down, at least 1.

        Parameters
        ----------
        global_batch_size : int
            Examples of one optimizer step.
        dataset_size : int or None, optional
            Training examples in one epoch; needed for epochs only.

        Raises
        ------
        LrscaleError
            For epochs of data whose size is unknown, and for tokens, whose number per example the task decides.
        """
        if self.unit == "steps":
            return self.value
        if self.unit == "examples":
            return max(1, self.value // global_batch_size)
        if self.unit == "epochs" and dataset_size is not None:
            return max(1, self.value * (dataset_size // global_batch_size))
        raise LrscaleError(f"{self} cannot be turned into steps here", hint="state the length in steps or examples")

    def __str__(self) -> str:
        return f"{short_number(self.value)} {self.unit}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one global batch is spread over devices and time.

    Global batch = per-device batch x accumulation x devices x nodes. The layout never changes which examples a step
    sees, only where they are computed.

    Examples
    --------
    >>> Layout(per_device_batch_size=16, accumulate=4, devices=2).global_batch_size
    128
    """

    per_device_batch_size: int
    """Examples of one forward on one device, at least 1."""
    accumulate: int = 1
    """Forwards per optimizer step on each device, at least 1."""
    devices: int = 1
    """Devices (ranks) per node, at least 1."""
    num_nodes: int = 1
    """Nodes, at least 1."""

    def __post_init__(self) -> None:
        for name in ("per_device_batch_size", "accumulate", "devices", "num_nodes"):
            if getattr(self, name) < 1:
                raise LayoutError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.devices * self.num_nodes

    @property
    def global_batch_size(self) -> int:
        """Examples of one optimizer step over all ranks."""
        return self.per_device_batch_size * self.accumulate * self.world_size


def time_text(seconds: float) -> str:
    """Write a time in at most two units.

    Examples
    --------
    >>> time_text(0.42), time_text(42.4), time_text(200), time_text(7200), time_text(2e5)
    ('0.4 s', '42 s', '3 min 20 s', '2 h 00 min', '2 d 7 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def split_global_batch(
    global_batch_size: int,
    *,
    devices: int = 1,
    num_nodes: int = 1,
    per_device_batch_size: int | None = None,
    max_per_device_batch_size: int | None = None,
) -> Layout:
    """Spread a global batch over the devices with as little accumulation as the memory bound allows.

    Parameters
    ----------
    global_batch_size : int
        Examples of one optimizer step, a multiple of the number of ranks.
    devices, num_nodes : int, optional
        Ranks per node and nodes. Default 1 each.
    per_device_batch_size : int or None, optional
        Fixes the size of one forward. Default None: as large as allowed.
    max_per_device_batch_size : int or None, optional
        The largest size of one forward that fits. Default None: no bound.

    Returns
    -------
    Layout

    Raises
    ------
    LayoutError
        When the batch does not divide, with the nearest sizes that do.

    Examples
    --------
    >>> split_global_batch(512, devices=2, max_per_device_batch_size=64)
    Layout(per_device_batch_size=64, accumulate=4, devices=2, num_nodes=1)
    >>> split_global_batch(96, devices=8, per_device_batch_size=16)
    Traceback (most recent call last):
    ...
    lrscale.errors.LayoutError: global batch 96 is not a multiple of 8 devices x 16 per device; use 128, or set \
per_device_batch_size: 12
    """
    for name, count in (
        ("devices", devices),
        ("num_nodes", num_nodes),
        ("per_device_batch_size", per_device_batch_size),
        ("max_per_device_batch_size", max_per_device_batch_size),
    ):
        if count is not None and count < 1:
            raise LayoutError(f"{name} must be at least 1, not {count}")
    if (
        per_device_batch_size is not None
        and max_per_device_batch_size is not None
        and per_device_batch_size > max_per_device_batch_size
    ):
        raise LayoutError(
            f"per_device_batch_size {per_device_batch_size} is above max_per_device_batch_size "
            f"{max_per_device_batch_size}",
            hint="keep one of them",
        )
    ranks = devices * num_nodes
    where = f"{devices} devices" if num_nodes == 1 else f"{num_nodes} nodes x {devices} devices"
    if global_batch_size < 1:
        raise LayoutError(f"a global batch size must be at least 1, not {global_batch_size}")
    if global_batch_size % ranks:
        near = " or ".join(str(size) for size in _multiples_around(global_batch_size, ranks))
        raise LayoutError(f"global batch {global_batch_size} is not a multiple of {where}", hint=f"use {near}")
    per_rank = global_batch_size // ranks
    if per_device_batch_size is not None:
        if per_rank % per_device_batch_size:
            near = " or ".join(
                str(size) for size in _multiples_around(global_batch_size, ranks * per_device_batch_size)
            )
            fits = max(size for size in divisors(per_rank) if size <= per_device_batch_size)
            raise LayoutError(
                f"global batch {global_batch_size} is not a multiple of {where} x {per_device_batch_size} per device",
                hint=f"use {near}, or set per_device_batch_size: {fits}",
            )
        chosen = per_device_batch_size
    elif max_per_device_batch_size is None or per_rank <= max_per_device_batch_size:
        chosen = per_rank
    else:
        chosen = max(size for size in divisors(per_rank) if size <= max_per_device_batch_size)
    return Layout(per_device_batch_size=chosen, accumulate=per_rank // chosen, devices=devices, num_nodes=num_nodes)


def divisors(number: int) -> list[int]:
    """Return the divisors of a number of at least 1, ascending.

    Examples
    --------
    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [size for size in range(1, math.isqrt(number) + 1) if number % size == 0]
    return sorted({*small, *(number // size for size in small)})


def _multiples_around(value: int, factor: int) -> list[int]:
    below = value // factor * factor
    return [size for size in (below, below + factor) if size > 0]
