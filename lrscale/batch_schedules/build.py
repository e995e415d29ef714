"""From the name and settings of a batch-size schedule to the schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrscale.batch_schedules.base import BATCH_SCHEDULES, AbstractBatchSchedule
from lrscale.errors import LrscaleError, did_you_mean


def build_batch_schedule(name: str, settings: Mapping[str, Any] | None = None) -> AbstractBatchSchedule:
    """Return the registered batch schedule.

    Parameters
    ----------
    name : str
        A registered name.
    settings : mapping or None, optional
        The schedule's own fields. Default None: its defaults.

    Raises
    ------
    LrscaleError
        For an unknown name or setting, naming the nearest known one, and for a value out of its range.

    Examples
    --------
    >>> build_batch_schedule("doubling", {"every_fraction": 0.5}).multiple(60, horizon=100)
    2
    """
    kind = BATCH_SCHEDULES[name]
    known = [field.name for field in dataclasses.fields(kind)]
    for setting in settings or {}:
        if setting not in known:
            raise LrscaleError(f"batch schedule {name} has no setting {setting}", hint=did_you_mean(setting, known))
    return kind(**(settings or {}))


def batch_schedule_label(name: str, settings: Mapping[str, Any]) -> str:
    """Return what people read for a batch schedule: its name, and those of its settings that are given.

    Examples
    --------
    >>> batch_schedule_label("doubling", {"every_fraction": 0.5})
    'doubling (every_fraction=0.5)'
    """
    extra = ", ".join(f"{key}={value}" for key, value in sorted(settings.items()))
    return f"{name} ({extra})" if extra else name
