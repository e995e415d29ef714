"""The kinds of values that a recipe's fields hold, each with the rule that it must keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from lrscale.errors import LrscaleError
from lrscale.recipe.amounts import Budget, Price, Speed
from lrscale.units import UNITS, Duration

Amount = TypeVar("Amount")

_BARE_NUMBER = re.compile(r"^\s*[0-9][0-9_.]*([eE][+-]?[0-9]+)?\s*[kMBG]?\s*$")

_NUMBER = r"[0-9][0-9_]*\.?[0-9]*([eE][+-]?[0-9]+)?"

_PERCENT = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*$")

_BYTES = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([kKMGT]?)(i?)B\s*$")

SENTENCE = "sentence"
"""Type of the errors below: their message is already for people, and their context holds the remedy."""


def refuse(message: str, *, hint: str | None = None) -> NoReturn:
    """Raise an error whose message follows the field's path: ``experiments.scaling.seeds must ...``."""
    # pydantic fills braces in a message template from the context, so that the text itself goes there.
    raise PydanticCustomError(SENTENCE, "{sentence}", {"sentence": message, "hint": hint})


def _whole(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    refuse(f"must be a whole number, not {shown(value)}")


def shown(value: Any) -> str:
    """Return a value as it stands in a message: short, and text in quotes.

    Examples
    --------
    >>> shown("16"), shown(None), shown(True)
    ("'16'", 'empty', 'true')
    """
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        refuse(f"must be a length with its unit, not {shown(value)}", hint='write for example "40k examples"')
    text = str(value)
    if _BARE_NUMBER.match(text):
        refuse(f"has no unit: {text}", hint=f"write for example {text} examples; units are {', '.join(UNITS)}")
    try:
        return Duration.parse(text)
    except LrscaleError as error:
        refuse(f"cannot be read: {error.message}", hint=error.hint)


def _warmup(value: Any) -> Duration | float:
    if isinstance(value, str) and (share := _PERCENT.match(value)):
        value = float(share.group(1)) / 100
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _duration(value)
    if not 0 <= value < 1:
        refuse(f"must be a share of the horizon in [0, 1), or a length with its unit, not {shown(value)}")
    return float(value)


def _budget(value: Any) -> Budget:
    return value if isinstance(value, Budget) else _amount(value, Budget.parse, "30m")


def _price(value: Any) -> Price:
    return value if isinstance(value, Price) else _amount(value, Price.parse, "2.5 EUR", bare=True)


def _speed(value: Any) -> Speed:
    return value if isinstance(value, Speed) else _amount(value, Speed.parse, "3000 examples/s")


def _amount(value: Any, parse: Callable[[str], Amount], example: str, *, bare: bool = False) -> Amount:
    if isinstance(value, bool) or not isinstance(value, (str, int, float) if bare else str):
        refuse(f"must be written with its unit, not {shown(value)}", hint=f'write for example "{example}"')
    try:
        return parse(str(value))
    except LrscaleError as error:
        refuse(f"cannot be read: {error.message}", hint=error.hint)


def _positive_lr(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        refuse(f"must be a number, not {shown(value)}")
    if not 0 < value < float("inf"):
        refuse(f"must be a positive learning rate, not {shown(value)}")
    return float(value)


def _side_by_side(value: Any) -> Any:
    if value == "auto":
        return value
    if isinstance(value, str):
        refuse(f"must be a whole number or auto, not {shown(value)}")
    number = _whole(value)
    if number < 1:
        refuse(f"must be at least 1, not {shown(value)}", hint="write 1 or auto")
    return number


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        found = _BYTES.match(value)
        if found is None:
            refuse(f"is no amount of memory: {shown(value)}", hint='write for example "4GiB" or "500 MB"')
        number, prefix, binary = found.groups()
        value = float(number) * (1024 if binary else 1000) ** " kMGT".index(prefix.replace("K", "k") or " ")
    return _whole(round(value) if isinstance(value, float) and value >= 1 else value)


def distinct(values: Sequence[Any]) -> Any:
    """Refuse a list that names something twice: it would be trained once and look like two."""
    for index, value in enumerate(values):
        if value in values[:index]:
            refuse(f"names {shown(value)} twice", hint="remove one")
    return values


def require_countable(horizon: Duration | None) -> None:
    """Refuse a length in tokens, of which no number of steps follows."""
    if horizon is not None and horizon.unit == "tokens":
        refuse(f"has horizon {horizon}, and how many tokens an example has is the task's affair", hint="use examples")


def require_same_data(horizon: Duration | None, batch_sizes: Sequence[int] | None) -> None:
    """Refuse a length in tokens, and one in steps for several batch sizes; None stands for some, not known here."""
    require_countable(horizon)
    if horizon is not None and horizon.unit == "steps" and (batch_sizes is None or len(batch_sizes) > 1):
        several = "batch sizes" if batch_sizes is None else f"{len(batch_sizes)} batch sizes"
        refuse(f"compares {several} over {horizon}, which are not the same data", hint="state the horizon in examples")


Count = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
"""A whole number of at least 1; 1e3 counts as one, 16.5, true and "16" do not."""

MemorySize = Annotated[
    int,
    BeforeValidator(_bytes),
    Field(ge=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*[kKMGT]?i?B\s*$"},
            ]
        }
    ),
]
"""An amount of memory in bytes, also written ``4GiB`` (1024) or ``4 GB`` (1000)."""

NonNegative = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
"""A whole number of at least 0."""

Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number; text is refused."""

LearningRate = Annotated[
    float, BeforeValidator(_positive_lr), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]
"""A positive, finite learning rate."""

Length = Annotated[
    Duration,
    PlainValidator(_duration),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^\s*{_NUMBER}\s*[kMBG]?\s*(step|example|epoch|token)s?\s*$",
        }
    ),
]
"""A length of training with its unit, written ``40k examples``."""

WarmupLength = Annotated[
    Duration | float,
    PlainValidator(_warmup),
    PlainSerializer(lambda value: str(value) if isinstance(value, Duration) else value, return_type=str | float),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
                {
                    "type": "string",
                    "pattern": rf"^\s*{_NUMBER}\s*([kMBG]?\s*(step|example|epoch)s?|%)\s*$",
                },
            ]
        }
    ),
]
"""A length of warm-up: a share of the horizon, also written ``5 %``, or a length with its unit. Examples are the same
data at every batch size, a share is so too, and steps are not."""

BudgetText = Annotated[
    Budget, PlainValidator(_budget), PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})
]
"""What a study may spend: a time such as ``30m`` or ``2h``, ``1e6 examples`` or ``20 trials``."""

PriceText = Annotated[
    Price,
    PlainValidator(_price),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
]
"""Price of a device-hour, ``2.5`` or ``2.5 EUR``."""

SpeedText = Annotated[
    Speed, PlainValidator(_speed), PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})
]
"""A speed of training, ``3000 examples/s``."""


def _empty_is_default(value: Any) -> Any:
    return {} if value is None else value


EMPTY_IS_DEFAULT = BeforeValidator(_empty_is_default)
"""A section whose every line is commented out reads as null, and means its defaults."""

Arguments = Annotated[dict[str, Any], EMPTY_IS_DEFAULT]
"""Named arguments, of any JSON values."""

Accelerator = Literal["auto", "cpu", "gpu"]
SideBySide = Annotated[
    int | Literal["auto"],
    PlainValidator(_side_by_side),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}),
]
"""A whole number of at least 1, or ``auto``."""
WhoseSchedule = Literal["ours", "module"]
Objective = Literal["loss", "time", "cost", "time_price"]
