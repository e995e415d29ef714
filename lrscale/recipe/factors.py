"""Any entry of the task against the LR: the recipe's `experiments.factors`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, final

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from lrscale.recipe.fields import Count, Length, Real, distinct, refuse, require_countable, shown
from lrscale.recipe.task import Section, Task
from lrscale.recipe.variants import NAME, TASK, label_of, overrides_of

WIDTHS = frozenset(
    {"width", "d_model", "dim", "hidden", "hidden_size", "hidden_dim", "embed_dim", "n_embd", "model_dim"}
)
"""Names by which a factor is taken for the width of the model."""
_HOMES = ("model", "data", "trainer")
OVERRIDES = "task.overrides"
"""Where entries of a LightningCLI config, and arguments of a factory, are set otherwise."""
FEWEST_LEVELS = 2


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One value of a factor."""

    label: str
    overrides: Mapping[str, Any]
    """Paths of the task's entries with their values."""
    value: float | None
    """The number that the factor has there; None where it has none."""


class Factors(Section):
    """Entries of the task, each with some values, crossed one by one with the LR.

    A factor is written as the path of an entry, ``task.model.init_args.width: [64, 128]``, or by the last part of it
    where one of the arguments that the recipe gives is called that; a name that none is called is an argument of the
    model. Of a task with a `config`, ``model.width`` is the entry of that path, and a name without a dot an argument of
    the model; of one with a `factory`, a name is an argument of the function. A value that is a mapping sets several
    entries together. Schedule and warm-up are those of `scaling`.

    Examples
    --------
    >>> Factors.model_validate(long_factors({"width": [64, 128], "seeds": 2})).factors
    {'width': (64, 128)}
    """

    model_config = ConfigDict(
        json_schema_extra={"additionalProperties": {"anyOf": [{"type": "array"}, {"type": "object"}]}}
    )

    factors: Annotated[Mapping[str, tuple[Any, ...]], Field(min_length=1)]
    """Factor -> values, two at least."""
    batch_size: Count | None = None
    """Global batch size. Default: the middle one of `scaling`."""
    horizon: Length | None = None
    """Length of every trial. Default: that of `scaling`."""
    seeds: Count = 3
    """Seed replicates of every setting."""
    ratio: Annotated[Real, Field(gt=1)] = 2.0
    """Ratio of neighbouring LRs, above 1."""
    max_learning_rates: Annotated[Count, Field(ge=3)] = 9
    """Most LRs tried at one value of a factor, at least 3."""
    validations: Count = 10
    """Validations over the horizon."""
    margin: Annotated[Real, Field(ge=0, lt=1)] = 0.005
    """Relative difference of the loss that counts as equal, in [0, 1)."""
    widths: tuple[str, ...] | None = None
    """Factors that are a width of the model, for the check of its parametrisation. Default: by their names, such as
    ``width``, ``d_model`` or ``hidden_size``."""

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        for name, values in self.factors.items():
            if len(values) < FEWEST_LEVELS:
                refuse(f"gives {name} {len(values)} value", hint="give it two at least, for example [64, 128]")
            distinct(list(values))
        for name in self.widths or ():
            if name not in self.factors:
                refuse(f"names the width {shown(name)}, which is none of its factors", hint="add it, or remove it")
        require_countable(self.horizon)
        return self

    def is_width(self, name: str) -> bool:
        """Whether a factor is a width of the model."""
        return name in self.widths if self.widths is not None else name.rpartition(".")[2].lower() in WIDTHS

    def levels(self, task: Task) -> dict[str, tuple[Level, ...]]:
        """Return the levels of each factor of a task.

        Raises
        ------
        ValueError
            When a name is that of several entries.
        """
        return {name: tuple(_level(task, name, value) for value in values) for name, values in self.factors.items()}


def long_factors(value: Any) -> Any:
    """Return ``{"factors": {...}}`` for the short form, in which factors stand beside the settings.

    Examples
    --------
    >>> long_factors({"task": {"model": {"init_args": {"dropout": [0, 0.1]}}}, "seeds": 2})
    {'seeds': 2, 'factors': {'task.model.init_args.dropout': [0, 0.1]}}
    """
    if not isinstance(value, Mapping):
        return value
    settings = {key: own for key, own in value.items() if key in Factors.model_fields and key != "factors"}
    given = value.get("factors", {})
    if not isinstance(given, Mapping):
        return value
    factors = {**given, **{key: own for key, own in value.items() if key not in Factors.model_fields}}
    return {**settings, "factors": dict(_flat(factors, ""))} if factors else value


def factor_path(task: Task, name: str) -> str:
    """Return the path of the entry that a factor names.

    Raises
    ------
    ValueError
        When the model, the data and the trainer have several entries of that name.

    Examples
    --------
    >>> task = Task.model_validate({"model": {"class_path": "shop.Net", "init_args": {"width": 8}}})
    >>> factor_path(task, "width"), factor_path(task, "trainer.precision"), factor_path(task, "depth")
    ('task.model.init_args.width', 'task.trainer.precision', 'task.model.init_args.depth')

    An entry of a LightningCLI config, and an argument of a factory:

    >>> factor_path(Task.model_validate({"config": "run.yaml"}), "width")
    'task.overrides.model.init_args.width'
    >>> factor_path(Task.model_validate({"factory": "shop:make"}), "width")
    'task.overrides.width'
    """
    if task.model is None:
        return _path_of_another_way_in(task, name)
    if name.startswith(TASK):
        return name
    if name.partition(".")[0] in _HOMES and "." in name:
        return TASK + name
    homes = {
        "task.model.init_args": task.model.init_args,
        "task.data.init_args": {} if task.data is None else task.data.init_args,
        "task.trainer": task.trainer,
    }
    first = name.partition(".")[0]
    found = [home for home, arguments in homes.items() if first in arguments]
    if len(found) > 1:
        refuse(
            f"names {name}, which is an entry of {' and of '.join(found)}",
            hint=f"write the whole path, for example {found[0]}.{name}",
        )
    return f"{found[0] if found else 'task.model.init_args'}.{name}"


def _path_of_another_way_in(task: Task, name: str) -> str:
    """Return the path of an entry of a config, or of an argument of a factory."""
    name = name.removeprefix(TASK)
    if name.partition(".")[0] in ("trainer", "overrides"):
        return TASK + name
    if task.factory is not None:
        own = name.removeprefix("model.init_args.")
        if own.partition(".")[0] in ("lr", "batch_size", "seed"):
            refuse(f"names {name}, which every trial hands to the factory by itself", hint="name another argument")
        return f"{OVERRIDES}.{own}"
    return f"{OVERRIDES}.{name if '.' in name else f'model.init_args.{name}'}"


def _flat(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the factors of nested mappings, as an override on the command line makes them, by their dotted paths."""
    for key, own in value.items():
        if isinstance(own, Mapping):
            yield from _flat(own, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", own


def _level(task: Task, name: str, value: Any) -> Level:
    path = factor_path(task, name)
    if not isinstance(value, Mapping):
        return Level(label=label_of({path: value}), overrides={path: value}, value=_number(value))
    entries = {key if key == NAME else factor_path(task, key): own for key, own in value.items()}
    return Level(label=label_of(entries), overrides=overrides_of(entries), value=_number(entries.get(path)))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
