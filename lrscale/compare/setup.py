"""What two studies were set to do, and whether their losses are of the same thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from lrscale.compare.side import Side
from lrscale.recommend.words import count

_NOT_OF_THE_TASK = ("name", "layout", "slurm", "cost", "target")
"""Parts of a recipe that do not change what a trial measures."""
_LONGEST = 60
"""Characters kept of a value."""
_FACTS = {
    "module": "module",
    "optimizers": "optimizers",
    "parameters": "parameters",
    "training_examples": "training examples",
    "validation_examples": "validation examples",
}


@final
@dataclass(frozen=True, slots=True)
class Setting:
    """One setting in both studies."""

    name: str
    a: str
    b: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What was set differently, and what follows for the comparison."""

    different: tuple[Setting, ...]
    measured: tuple[Setting, ...]
    """What the trials found out about module, data and machine, where it differs."""
    caveats: tuple[str, ...]
    """Sentences that a reader has to know before any number."""
    loss_reason: str | None
    """Why losses must not be compared; None where they may."""
    tolerance: float
    """Relative loss that does not matter, the larger of both recipes' unless one is given."""


def read_setup(a: Side, b: Side, tolerance: float | None = None) -> Setup:
    """Return what was set differently.

    Losses are compared only where both studies monitor the same value on the same validation data after the same number
    of examples; otherwise a difference of losses would be one of yardsticks.
    """
    caveats, loss_reason = [], None
    monitors = (a.monitor, b.monitor)
    if monitors[0] != monitors[1]:
        loss_reason = f"{a.label} monitors {monitors[0]} and {b.label} {monitors[1]}"
    hashes = [side.facts.get("validation_hash") for side in (a, b)]
    if loss_reason is None and None not in hashes and hashes[0] != hashes[1]:
        loss_reason = "they validate on different data"
    lengths = [side.scaling.get("horizon_examples") for side in (a, b)]
    if lengths[0] is not None and lengths[1] is not None and lengths[0] != lengths[1]:
        told = f"the trials of {a.label} see {count(lengths[0])} examples and those of {b.label} {count(lengths[1])}"
        caveats.append(f"{told[:1].upper()}{told[1:]}: best LRs move with the length.")
        loss_reason = loss_reason or told
    names = [side.scaling.get("schedule") for side in (a, b)]
    if None not in names and names[0] != names[1]:
        caveats.append(
            f"{a.label} sweeps under the {names[0]} schedule and {b.label} under {names[1]}: a best LR belongs to its "
            "schedule."
        )
    if loss_reason is not None:
        caveats.insert(0, f"Losses are not compared: {loss_reason}.")
    shared = len(a.view.trials.keys() & b.view.trials.keys())
    if shared:
        caveats.append(f"{count(shared)} trials are the same in both: what rests on them alone is equal by itself.")
    tolerances = [1e-3 if side.recipe.target is None else side.recipe.target.tolerance for side in (a, b)]
    return Setup(
        different=tuple(_recipes(a, b)),
        measured=tuple(_measured(a, b)),
        caveats=tuple(caveats),
        loss_reason=loss_reason,
        tolerance=max(tolerances) if tolerance is None else tolerance,
    )


def _recipes(a: Side, b: Side) -> list[Setting]:
    plain = [side.recipe.dump() for side in (a, b)]
    asked = [{key: value for key, value in (one.pop("experiments", None) or {}).items() if value} for one in plain]
    one, other = (_flat(part) for part in plain)
    rows = [
        Setting(key, _text(one.get(key)), _text(other.get(key)))
        for key in dict.fromkeys([*one, *other])
        if key.partition(".")[0] not in _NOT_OF_THE_TASK and one.get(key) != other.get(key)
    ]
    for name in dict.fromkeys([*asked[0], *asked[1]]):
        if name not in asked[0] or name not in asked[1]:
            rows.append(Setting(f"experiments.{name}", *("asked" if name in own else "not asked" for own in asked)))
            continue
        first, second = (_flat({name: own[name]}) for own in asked)
        rows += [
            Setting(f"experiments.{key}", _text(first.get(key)), _text(second.get(key)))
            for key in dict.fromkeys([*first, *second])
            if first.get(key) != second.get(key)
        ]
    return rows


def _measured(a: Side, b: Side) -> list[Setting]:
    rows = []
    for key, name in _FACTS.items():
        values = [side.facts.get(key) for side in (a, b)]
        if values[0] != values[1]:
            rows.append(Setting(name, *(_text(value) for value in values)))
    trials = [side.trial() for side in (a, b)]
    environments = [{} if one is None else one.record.environment for one in trials]
    for key in ("device", "torch", "lightning", "pytorch_lightning"):
        values = [environment.get(key) for environment in environments]
        if values[0] != values[1]:
            rows.append(Setting(key, *(_text(value) for value in values)))
    return rows


def _flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and "name" in value:
        settings = value.get("settings") or {}
        extra = ", ".join(f"{key}={_text(one)}" for key, one in settings.items())
        return f"{value['name']} ({extra})" if extra else str(value["name"])
    if isinstance(value, (list, tuple)):
        return _short(", ".join(_text(one) for one in value))
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _short(str(value))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
