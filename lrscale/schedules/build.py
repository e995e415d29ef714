"""From a schedule's name and settings to the schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.schedules.base import SCHEDULES, AbstractSchedule
from lrscale.schedules.warmup import Warmup, WarmupShape

SCHEDULER = "scheduler"
"""Name that stands for a scheduler of the user's own, whose ``class_path`` is in the settings."""


def build_schedule(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    warmup_steps: int = 0,
    warmup_shape: WarmupShape = "linear",
) -> AbstractSchedule:
    """Return the registered schedule, behind a warm-up where one is asked for.

    Parameters
    ----------
    name : str
        A registered name.
    settings : mapping or None, optional
        The schedule's own fields. Default None: its defaults.
    warmup_steps : int, optional
        Steps of warm-up. Default 0.
    warmup_shape : {"linear", "cosine"}, optional
        Default ``linear``.

    Raises
    ------
    LrscaleError
        For an unknown name or setting, naming the nearest known one.

    Examples
    --------
    >>> build_schedule("cosine", warmup_steps=10).factor(4, horizon=100)
    0.5
    """
    kind = SCHEDULES[name]
    kinds = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    known = list(kinds)
    for setting, value in (settings or {}).items():
        if setting not in known:
            hint = did_you_mean(setting, known) if known else "it takes none"
            raise LrscaleError(f"schedule {name} has no setting {setting}", hint=hint)
        _require_kind(f"{setting} of schedule {name}", kinds[setting], value)
    schedule = kind(**(settings or {}))
    return Warmup(steps=warmup_steps, then=schedule, shape=warmup_shape) if warmup_steps else schedule


def schedule_label(name: str, settings: Mapping[str, Any]) -> str:
    """Return what people read for a schedule: its name, and those of its settings that are given.

    Examples
    --------
    >>> schedule_label("cosine", {}), schedule_label("wsd", {"decay_fraction": 0.2})
    ('cosine', 'wsd (decay_fraction=0.2)')
    >>> schedule_label("piecewise", {"points": [[0, 1], [0.8, 0.1]]})
    'piecewise constant (1, 0.1 from 80 %)'
    """
    if name == SCHEDULER:
        return _scheduler_label(settings)
    kind = SCHEDULES.get(name)
    own = None if kind is None or not settings else kind(**settings).label
    if own is not None:
        return own
    extra = ", ".join(f"{key}={value}" for key, value in sorted(settings.items()))
    return f"{name} ({extra})" if extra else name


def brings_rise(name: str) -> bool:
    """Whether a schedule has no warm-up in front of it where nobody asks for one; so have those known to torch alone.

    Examples
    --------
    >>> brings_rise("cosine"), brings_rise("one_cycle"), brings_rise("module"), brings_rise("scheduler")
    (False, True, True, True)
    """
    return name not in SCHEDULES or not SCHEDULES[name].needs_warmup


def is_pure(name: str) -> bool:
    """Whether a schedule's position alone decides its factor, so that its course is known before it has run.

    Examples
    --------
    >>> is_pure("cosine"), is_pure("reduce_on_plateau"), is_pure("module"), is_pure("scheduler")
    (True, False, False, False)
    """
    return name in SCHEDULES and SCHEDULES[name].is_pure


def _scheduler_label(settings: Mapping[str, Any]) -> str:
    arguments = [f"{key}={_short(value)}" for key, value in sorted((settings.get("init_args") or {}).items())]
    if settings.get("interval", "step") != "step":
        arguments.append(f"each {settings['interval']}")
    name = str(settings.get("class_path", SCHEDULER)).rpartition(".")[2]
    return f"{name} ({', '.join(arguments)})" if arguments else name


def _short(value: object) -> str:
    if isinstance(value, Mapping) and "class_path" in value:
        return _scheduler_label(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_short(one) for one in value)}]"
    return str(value)


def _require_kind(name: str, kind: str, value: object) -> None:
    # Recipes bring whatever YAML holds; a text where a number belongs would fail far from here, or compare as one.
    allowed: dict[str, tuple[tuple[type, ...], str]] = {
        "float": ((int, float), "a number"),
        "int": ((int,), "a whole number"),
        "bool": ((bool,), "true or false"),
        "Points": ((list, tuple), "a list of pairs"),
    }
    if kind == "tuple[float, ...]":
        if not isinstance(value, (list, tuple)) or not all(_is_number(one) for one in value):
            raise LrscaleError(f"{name} must be a list of numbers, not {value!r}")
        return
    types, words = allowed.get(kind, ((str,), "a name"))
    if not isinstance(value, types) or (isinstance(value, bool) and kind != "bool"):
        raise LrscaleError(f"{name} must be {words}, not {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
