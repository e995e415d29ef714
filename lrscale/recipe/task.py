"""What is trained: the recipe's `task`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from typing_extensions import Self

from lrscale.errors import RecipeError
from lrscale.recipe.fields import Arguments, WhoseSchedule, distinct, refuse, shown

_DOTTED = re.compile(r"^[^\W\d]\w*(\.[^\W\d]\w*)+$")
_COLON = re.compile(r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$")


class Section(BaseModel):
    """Base of everything in a recipe: frozen, and closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=False)


def _class_path(value: Any) -> Any:
    if not isinstance(value, str) or not _DOTTED.match(value):
        refuse(
            f"must be a class with its module, not {shown(value)}", hint="write for example my_package.my_module.Net"
        )
    return value


def _entry_point(value: Any) -> Any:
    if not isinstance(value, str) or not _COLON.match(value):
        refuse(f"must be written package.module:name, not {shown(value)}")
    return value


def _where_lr_lives(value: Any) -> Any:
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, (list, tuple)) or not paths or not all(isinstance(path, str) and path for path in paths):
        refuse(
            f"must be a dotted path, or a list of them, not {shown(value)}", hint="write for example model.init_args.lr"
        )
    distinct(list(paths))
    return paths[0] if len(paths) == 1 else tuple(paths)


EntryPoint = Annotated[str, BeforeValidator(_entry_point)]
LRPaths = Annotated[
    str | tuple[str, ...],
    BeforeValidator(_where_lr_lives),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class ClassEntry(Section):
    """A class and the arguments of its constructor, as in a LightningCLI config."""

    class_path: Annotated[str, BeforeValidator(_class_path)]
    """Module and class, ``package.module.Class``."""
    init_args: Arguments = Field(default_factory=dict)
    """Arguments of the constructor; what is absent has the class's own default."""


class Task(Section):
    """What is trained: a module and its data, named in exactly one of three ways.

    Examples
    --------
    >>> Task.model_validate({"model": {"class_path": "shop.Net"}, "monitor": "val_loss"}).model.class_path
    'shop.Net'
    """

    model: ClassEntry | None = None
    """First way in: the LightningModule."""
    data: ClassEntry | None = None
    """The LightningDataModule that goes with `model`; absent when the module has its own loaders."""
    trainer: Arguments = Field(default_factory=dict)
    """Arguments of the Trainer that trials keep, such as ``precision`` or ``gradient_clip_val``."""
    config: str | None = None
    """Second way in: path of a LightningCLI config file, relative to the recipe."""
    cli: EntryPoint | None = None
    """The LightningCLI subclass that reads `config`, ``package.module:Class``. Default: LightningCLI itself."""
    factory: EntryPoint | None = None
    """Third way in: ``package.module:function``, called as ``function(lr=, batch_size=, seed=)``; it returns the
    module, and a data module or loaders."""
    overrides: Arguments = Field(default_factory=dict)
    """What is set otherwise: entries of `config` (``{model: {init_args: {width: 128}}}``), or further arguments of
    `factory` (``{width: 128}``). Experiments that vary the task, such as `factors`, set it."""
    lr: LRPaths | None = None
    """Dotted path, or paths, of where the LR lives. Default: it is set in the optimizers that the module makes."""
    batch_size: str | None = None
    """Dotted path of where the per-device batch size lives. Default: it is searched for."""
    monitor: str | None = None
    """The logged value that trials are compared by; smaller is better. Default: the validation loss is searched for."""
    schedule: WhoseSchedule = "ours"
    """Whose schedule trials follow: ``ours``, the one that an experiment names, or the ``module``'s own."""
    import_paths: tuple[str, ...] = (".",)
    """Folders in which classes are looked for, relative to the recipe. Default: the recipe's own folder."""

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        ways = [way for way in ("model", "config", "factory") if getattr(self, way) is not None]
        if not ways:
            refuse("names nothing to train", hint="give it model (and data), or config, or factory")
        if len(ways) > 1:
            refuse(f"names what to train in {len(ways)} ways ({' and '.join(ways)})", hint="keep one of them")
        if self.data is not None and self.model is None:
            refuse(f"has data beside {ways[0]}, which brings its own", hint="remove data, or name model instead")
        if self.overrides and self.model is not None:
            refuse("has overrides beside model, whose arguments stand in its init_args", hint="set them there")
        if self.cli is not None and self.config is None:
            refuse("has cli without config", hint="add the config file that this class reads")
        return self

    def resolved(self, root: Path) -> dict[str, Any]:
        """Return the task as JSON values, as a trial's spec holds it.

        Parameters
        ----------
        root : Path
            Folder that `config` is relative to.

        Returns
        -------
        dict
            Every field; with a `config`, also ``config_sha256`` of its content, since the content decides the result.

        Raises
        ------
        RecipeError
            When the config file cannot be read.
        """
        plain: dict[str, Any] = self.model_dump(mode="json")
        # Absent where there are none, so that trials of tasks without them keep their ids.
        if not self.overrides:
            del plain["overrides"]
        if self.config is not None:
            plain["config_sha256"] = hashlib.sha256(read_config(root / self.config)).hexdigest()
        return plain


def read_config(path: Path) -> bytes:
    """Return the content of a config file.

    Raises
    ------
    RecipeError
        When it is no file or cannot be read, naming the path.
    """
    try:
        # A study that somebody sent names the path too; reading a device or a pipe need not end.
        if path.exists() and not path.is_file():
            raise RecipeError(f"task.config: {path} is no file", hint="the path is relative to the recipe")
        return path.read_bytes()
    except OSError as error:
        raise RecipeError(
            f"task.config: cannot read {path}: {error.strerror}", hint="the path is relative to the recipe"
        ) from error
