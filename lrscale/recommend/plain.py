"""A recommendation as JSON values and as YAML, read back exactly."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.recipe.lines import dump_yaml, read_yaml
from lrscale.recommend.recommendation import FILE_NAME, RECOMMENDATION_VERSION, Recommendation
from lrscale.store.files import to_json, write_atomically

_HEADER = (
    "# Written by lrscale. Load it: lrscale.Recommendation.load(path); apply it: lrscale.ApplyRecommendation(path).\n"
)


def to_plain(recommendation: Recommendation) -> dict[str, Any]:
    """Return the fields as dicts, lists, strings and numbers; NaN and infinity become None."""
    plain: dict[str, Any] = json.loads(to_json(dataclasses.asdict(recommendation)))
    return plain


def from_plain(plain: Mapping[str, Any]) -> Recommendation:
    """Build a recommendation from what `to_plain` returned.

    Raises
    ------
    LrscaleError
        For a newer version, and for fields that are absent, unknown or of another kind.
    """
    version = plain.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise LrscaleError("this is not a recommendation: it has no schema_version", hint="make one: lrscale recommend")
    if version > RECOMMENDATION_VERSION:
        raise LrscaleError(
            f"recommendation version {version} is newer than {RECOMMENDATION_VERSION}, the newest this lrscale reads",
            hint="upgrade lrscale",
        )
    made: Recommendation = _build(Recommendation, plain, "")
    return made


def write(recommendation: Recommendation, path: Path) -> None:
    """Write YAML, whole or not at all."""
    write_atomically(path, _HEADER + dump(to_plain(recommendation)))


def dump(plain: Mapping[str, Any]) -> str:
    """Return YAML in the order of the fields; numbers keep every digit (Python's shortest exact form)."""
    return dump_yaml(dict(plain), default_flow_style=None)


def read(path: Path) -> Recommendation:
    """Read recommendation.yaml, or the one in a study folder.

    Raises
    ------
    LrscaleError
        When there is none, or when it is damaged.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        hint = "make one: lrscale recommend" if path.is_dir() else "name recommendation.yaml or its study folder"
        raise LrscaleError(f"there is no recommendation at {file}", hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise LrscaleError(f"cannot read {file}: {error}") from error
    document = read_yaml(text)
    if document.problems:
        first = document.problems[0]
        where = f"{file} line {first.line}" if first.line else str(file)
        raise LrscaleError(f"{where}: {first.message}", hint=first.hint)
    if not isinstance(document.value, dict):
        raise LrscaleError(f"{file} is not a recommendation", hint="name recommendation.yaml or its study folder")
    try:
        return from_plain(document.value)
    except LrscaleError as error:
        raise LrscaleError(f"{file}: {error.message}", hint=error.hint) from error


def _build(kind: Any, value: Any, path: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        (inner,) = [option for option in get_args(kind) if option is not type(None)]
        return _build(inner, value, path)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build_fields(kind, value, path)
    if origin is tuple:
        return _build_tuple(get_args(kind), value, path)
    if origin is not None and origin is not Literal:
        if not isinstance(value, Mapping):
            raise LrscaleError(f"{path} must be a mapping, not {value!r}")
        return dict(value)
    if origin is Literal:
        return _require(value in get_args(kind), value, path, f"one of {', '.join(map(str, get_args(kind)))}")
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(_require(number, value, path, "a number"))
    if kind is int:
        return _require(isinstance(value, int) and not isinstance(value, bool), value, path, "a whole number")
    return _require(isinstance(value, kind), value, path, "text")


def _build_fields(kind: type[Any], value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise LrscaleError(f"{path} must be a mapping, not {value!r}")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise LrscaleError(f"{_join(path, name)} is not known", hint=did_you_mean(str(name), fields))
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _build(hints[name], value[name], _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise LrscaleError(f"{_join(path, name)} is missing", hint="make the file again: lrscale recommend")
    return kind(**arguments)


def _build_tuple(kinds: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise LrscaleError(f"{path} must be a list, not {value!r}")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise LrscaleError(f"{path} must have {len(kinds)} entries, not {len(value)}")
    return tuple(
        _build(kind, item, f"{path}[{index}]") for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _require(holds: bool, value: Any, path: str, rule: str) -> Any:
    if not holds:
        raise LrscaleError(f"{path} must be {rule}, not {value!r}")
    return value


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)
