"""From the content of a launch config to what it sets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.recommend.config_check.config import LaunchConfig, Length, Number, Text, WarmupLength, WarmupUnit
from lrscale.recommend.config_check.merge import read_merged
from lrscale.recommend.config_check.search import only, value_at
from lrscale.recommend.recommendation import Recommendation
from lrscale.units import Duration, Unit

T = TypeVar("T")

KEYS: dict[str, tuple[str, ...]] = {
    "lr": ("lr", "learning_rate", "peak_lr", "max_lr", "base_lr"),
    "batch_size": (
        *("per_device_batch_size", "per_device_train_batch_size", "micro_batch_size", "train_batch_size"),
        "batch_size",
    ),
    "global_batch_size": ("global_batch_size", "effective_batch_size", "total_batch_size"),
    "accumulate": ("accumulate_grad_batches", "gradient_accumulation_steps"),
    "devices": ("devices",),
    "num_nodes": ("num_nodes", "nnodes"),
    "horizon": (
        *("horizon", "max_steps", "num_training_steps", "total_steps", "horizon_steps"),
        *("horizon_examples", "max_examples", "max_epochs"),
    ),
    "warmup": (
        *("warmup_steps", "num_warmup_steps", "warmup_iters", "warmup_examples", "warmup_samples"),
        *("warmup_epochs", "warmup_fraction", "warmup_ratio", "pct_start", "warmup"),
    ),
    "schedule": ("schedule", "lr_schedule", "lr_scheduler_type", "lr_scheduler", "scheduler"),
}
"""What a config is asked for, and the last words of the keys under which it is looked for, the most telling first."""

APPLIES = "ApplyRecommendation"


def read_launch_config(paths: Sequence[Path], keys: Mapping[str, str]) -> LaunchConfig:
    """Read the files of a launch, merged in their order.

    Parameters
    ----------
    paths : sequence of Path
        YAML files: LightningCLI configs, with or without ``fit:``, or plain keys such as ``lr`` and ``batch_size``.
    keys : mapping of str to str
        By a name of `KEYS`, the dotted key that says it; the others are searched for.

    Returns
    -------
    LaunchConfig

    Raises
    ------
    LrscaleError
        When a file cannot be read, a named key is absent, or several keys say different things.
    """
    for name in keys:
        if name not in KEYS:
            raise LrscaleError(f"unknown name {name} of a key", hint=did_you_mean(name, KEYS))
    config = read_merged(paths)
    trainer = config.get("trainer")
    trainer = trainer if isinstance(trainer, Mapping) else config
    schedule = _find(config, "schedule", _name_of, keys)
    return LaunchConfig(
        source=" + ".join(str(path) for path in paths),
        lr=_lr(config, keys, schedule),
        per_device_batch_size=_number(config, "batch_size", keys),
        accumulate=_number(config, "accumulate", keys),
        devices=_number(config, "devices", keys, _devices),
        num_nodes=_number(config, "num_nodes", keys),
        global_batch_size=_number(config, "global_batch_size", keys),
        horizon=_horizon(config, keys),
        max_epochs=None if "horizon" in keys else _max_epochs(config),
        schedule=None if schedule is None else Text(schedule[1], schedule[0]),
        warmup=_warmup(config, keys),
        optimizer=_optimizer(config),
        companions=_companions(config),
        ema=_ema(config),
        precision=_precision(trainer),
        classes={
            part: config[part]["class_path"]
            for part in ("model", "data")
            if isinstance(config.get(part), Mapping) and isinstance(config[part].get("class_path"), str)
        },
        applied=_applied(trainer, [path.parent for path in paths]),
    )


def _find(
    config: Mapping[str, Any], name: str, read: Callable[[Any], T | None], keys: Mapping[str, str]
) -> tuple[str, T] | None:
    if name not in keys:
        return only(config, KEYS[name], read, name)
    value = value_at(config, keys[name])
    said = read(value)
    if said is None:
        raise LrscaleError(f"{keys[name]} in the config is {value!r}, which says no {name}", hint="name another key")
    return keys[name], said


def _number(
    config: Mapping[str, Any],
    name: str,
    keys: Mapping[str, str],
    read: Callable[[Any], float | None] | None = None,
) -> Number | None:
    found = _find(config, name, read or _positive, keys)
    return None if found is None else Number(found[1], found[0])


def _lr(config: Mapping[str, Any], keys: Mapping[str, str], schedule: tuple[str, str] | None) -> Number | None:
    if "lr" not in keys and schedule is not None and schedule[1].endswith("OneCycleLR"):
        # Its own peak takes the place of the optimizer's LR.
        found = only(config, ("max_lr",), _positive, "lr")
        if found is not None:
            return Number(found[1], found[0])
    return _number(config, "lr", keys)


def _devices(value: Any) -> float | None:
    if isinstance(value, list) and value:
        return len(value)
    if isinstance(value, str):
        ids = [one for one in value.split(",") if one.strip()]
        return len(ids) if "," in value else _positive(int(value)) if value.isdigit() else None
    # "auto" and -1 are what the machine has, which is not known here.
    return _positive(value)


def _horizon(config: Mapping[str, Any], keys: Mapping[str, str]) -> Length | None:
    found: tuple[str, Duration | float] | None = _find(config, "horizon", _length_or_count, keys)
    if found is None or found[1] == 0:
        return None
    key, value = found
    if isinstance(value, Duration):
        return Length(value, key)
    return Length(Duration(int(value), _unit_of(key)), key)


def _max_epochs(config: Mapping[str, Any]) -> Length | None:
    found = only(config, ("max_epochs",), _positive, "horizon")
    return None if found is None else Length(Duration(int(found[1]), "epochs"), found[0])


def _unit_of(key: str) -> Unit:
    last = key.rpartition(".")[2]
    return "epochs" if "epoch" in last else "examples" if "example" in last or "sample" in last else "steps"


def _length_or_count(value: Any) -> Duration | float | None:
    if isinstance(value, str):
        return Duration.parse(value) if re.match(r"\s*[0-9]", value) else None
    return _not_negative(value)


def _warmup(config: Mapping[str, Any], keys: Mapping[str, str]) -> WarmupLength | None:
    found: tuple[str, Duration | float] | None = _find(config, "warmup", _length_or_count, keys)
    if found is None:
        return None
    key, value = found
    if isinstance(value, Duration):
        if value.unit == "tokens":
            raise LrscaleError(f"{key} is a warm-up in tokens", hint="state it in steps, examples or epochs")
        return WarmupLength(value.value, value.unit, key)
    number, last = float(value), key.rpartition(".")[2]
    if last.endswith(("fraction", "ratio", "pct_start")) or (last == "warmup" and 0 < number < 1):
        return WarmupLength(number, "share", key)
    return WarmupLength(number, cast("WarmupUnit", _unit_of(key)), key)


def _optimizer(config: Mapping[str, Any]) -> Text | None:
    # Several, as of a GAN, are compared by nothing that a config says.
    try:
        found = only(config, ("optimizer",), _name_of, "optimizer")
    except LrscaleError:
        return None
    return None if found is None else Text(found[1], found[0])


def _name_of(value: Any) -> str | None:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        value = value.get("class_path", value.get("name"))
    return value if isinstance(value, str) and value else None


def _companions(config: Mapping[str, Any]) -> dict[str, Number]:
    found: dict[str, Number] = {}
    betas = only(config, ("betas",), _pair, "betas")
    if betas is not None:
        for index, name in enumerate(("beta1", "beta2")):
            found[name] = Number(betas[1][index], f"{betas[0]}[{index}]")
    for name, keys in (
        ("beta1", ("beta1", "adam_beta1")),
        ("beta2", ("beta2", "adam_beta2")),
        ("momentum", ("momentum",)),
        ("eps", ("eps", "adam_eps", "adam_epsilon")),
        ("weight_decay", ("weight_decay",)),
    ):
        one = _consistent(config, keys)
        if one is not None and name not in found:
            found[name] = one
    return found


def _consistent(config: Mapping[str, Any], names: Sequence[str]) -> Number | None:
    # Layers and groups may have an eps or a weight decay each; several that differ say nothing about the first group.
    try:
        found = only(config, names, _not_negative, names[0])
    except LrscaleError:
        return None
    return None if found is None else Number(found[1], found[0])


def _ema(config: Mapping[str, Any]) -> Number | None:
    own = _consistent(config, ("ema_decay", "ema_momentum"))
    if own is not None:
        return own
    trainer = config.get("trainer")
    callbacks = trainer.get("callbacks") if isinstance(trainer, Mapping) else None
    for index, callback in enumerate(callbacks if isinstance(callbacks, list) else []):
        if (
            not isinstance(callback, Mapping)
            or "ema" not in str(callback.get("class_path", "")).rpartition(".")[2].lower()
        ):
            continue
        decay = _positive((callback.get("init_args") or {}).get("decay"))
        if decay is not None:
            return Number(decay, f"trainer.callbacks[{index}].init_args.decay")
    return None


def _precision(trainer: Mapping[str, Any]) -> Text | None:
    value = trainer.get("precision")
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return Text(str(value), "trainer.precision")
    return None


def _applied(trainer: Mapping[str, Any], folders: Sequence[Path]) -> Recommendation | None:
    """Return the recommendation of the job's callback; its path is one of the job's folder, or of the config's."""
    callbacks = trainer.get("callbacks")
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        if not isinstance(callback, Mapping) or not str(callback.get("class_path", "")).endswith(APPLIES):
            continue
        named = (callback.get("init_args") or {}).get("recommendation")
        if not isinstance(named, str):
            raise LrscaleError(f"{APPLIES} in the config names no recommendation", hint="give it the path of the file")
        places = [Path(named), *(folder / named for folder in folders)]
        return Recommendation.load(next((place for place in places if place.exists()), places[0]))
    return None


def _positive(value: Any) -> float | None:
    number = _not_negative(value)
    return number if number else None


def _not_negative(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    one, two = (_not_negative(item) for item in value)
    return None if one is None or two is None else (one, two)
