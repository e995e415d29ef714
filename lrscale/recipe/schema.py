"""The whole recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, model_validator
from typing_extensions import Self

from lrscale.recipe.experiments import Experiments, Target
from lrscale.recipe.fields import (
    EMPTY_IS_DEFAULT,
    Accelerator,
    BudgetText,
    Count,
    NonNegative,
    PriceText,
    Real,
    SideBySide,
    SpeedText,
    refuse,
)
from lrscale.recipe.instruments import Instruments
from lrscale.recipe.logger import Loggers
from lrscale.recipe.problems import EntryPath, spelled
from lrscale.recipe.slurm import SlurmSettings
from lrscale.recipe.task import Section, Task


class LayoutSettings(Section):
    """Where a trial runs. It changes the speed of a trial and not its result."""

    devices: Count = 1
    """Devices (ranks) of one trial on each node."""
    num_nodes: Count = 1
    """Nodes of one trial."""
    accelerator: Accelerator = "auto"
    """``cpu``, ``gpu``, or ``auto``: GPUs where there are any."""
    per_device_batch_size: Count | None = None
    """Examples of one forward on one device. Default: as many as the global batch and the bound allow."""
    max_per_device_batch_size: Count | None = None
    """Most examples of one forward that a device can hold. Default: no bound; beyond it gradients accumulate."""
    trials_at_once: SideBySide = 1
    """Trials that run side by side; ``auto``: as many as there are devices for, on CPU one for each core of a rank."""
    timeout: Annotated[Real, Field(gt=0)] | None = None
    """Seconds after which one trial is stopped. Default: never."""

    @property
    def at_once(self) -> int:
        """`trials_at_once` as a number; ``auto`` counts as one until a machine has told what it stands for."""
        return 1 if self.trials_at_once == "auto" else self.trials_at_once

    @model_validator(mode="after")
    def _within_the_bound(self) -> Self:
        size, bound = self.per_device_batch_size, self.max_per_device_batch_size
        if size is not None and bound is not None and size > bound:
            refuse(f"has per_device_batch_size {size} above max_per_device_batch_size {bound}", hint="keep one of them")
        return self


class Cost(Section):
    """What the study may spend, and what is known of that before anything was measured."""

    budget: BudgetText | None = None
    """All that the study may spend, over all runs of it: wall-clock time (``30m``, ``2h``), ``1e6 examples`` or
    ``20 trials``. Default: as much as its questions take."""
    price: PriceText | None = None
    """Price of a device-hour, such as ``2.5`` or ``2.5 EUR``; for `lrscale plan`."""
    throughput: SpeedText | None = None
    """Examples a second that a trial trains on the devices of `layout`, such as ``3000 examples/s``. It stands in until
    trials have measured better."""


class Recipe(Section):
    """What a study asks, of which task, on which devices.

    Made by `lrscale.load_recipe` from a YAML file, or from plain values by ``Recipe.model_validate``.

    Examples
    --------
    >>> recipe = Recipe.model_validate({"name": "demo", "task": {"model": {"class_path": "shop.Net"}}})
    >>> recipe.experiments.range_test.steps, recipe.layout.devices
    (100, 1)
    >>> Recipe.model_validate(recipe.dump()) == recipe
    True
    """

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    """Name of the study, of letters, digits, dots and dashes."""
    seed: NonNegative = 0
    """First seed; replicates count up from it."""
    task: Task
    """What is trained."""
    layout: Annotated[LayoutSettings, EMPTY_IS_DEFAULT] = Field(default_factory=LayoutSettings)
    """Where a trial runs."""
    slurm: Annotated[SlurmSettings, EMPTY_IS_DEFAULT] = Field(default_factory=SlurmSettings)
    """How jobs are asked of SLURM, for ``--launcher slurm``."""
    instruments: Annotated[Instruments, EMPTY_IS_DEFAULT] = Field(default_factory=Instruments)
    """What every trial measures besides its loss."""
    logger: Loggers = ()
    """Where trials are shown besides the report: a Lightning logger, or a list of them, as in LightningCLI's
    ``trainer.logger``. Each trial is a run of it, named after the trial. Default: none."""
    experiments: Annotated[Experiments, EMPTY_IS_DEFAULT] = Field(default_factory=Experiments)
    """Which questions are asked."""
    target: Target | None = None
    """The training job that the recommendation is for."""
    cost: Annotated[Cost, EMPTY_IS_DEFAULT] = Field(default_factory=Cost)
    """What the study may spend."""

    _root: Path = PrivateAttr(default_factory=Path)
    _text: str = PrivateAttr(default="")
    _source: str = PrivateAttr(default="recipe")
    _lines: Mapping[EntryPath, int] = PrivateAttr(default_factory=lambda: MappingProxyType({}))

    @property
    def root(self) -> Path:
        """Folder of the file; class paths and files are relative to it. Default: the working folder."""
        return self._root

    @property
    def text(self) -> str:
        """The file as given, before overrides; empty when the recipe was made from values."""
        return self._text

    @property
    def source(self) -> str:
        """Name of the file in messages."""
        return self._source

    @model_validator(mode="after")
    def _factors_found(self) -> Self:
        if self.experiments.factors is not None:
            self.experiments.factors.levels(self.task)
        return self

    def where(self, *path: str | int) -> str:
        """Return an entry's place for a message.

        Examples
        --------
        >>> recipe = Recipe.model_validate({"name": "demo", "task": {"model": {"class_path": "shop.Net"}}})
        >>> recipe.where("task", "monitor")
        'recipe: task.monitor'
        """
        line = self._lines.get(path)
        return f"{self._source}{'' if line is None else f' line {line}'}: {spelled(path)}"

    def dump(self) -> dict[str, Any]:
        """Return every field, defaults included, as JSON values; ``Recipe.model_validate`` inverts it."""
        return self.model_dump(mode="json")

    def placed(self, *, root: Path, text: str, source: str, lines: Mapping[EntryPath, int]) -> Recipe:
        """Return the recipe with the knowledge of where it came from; for the loader."""
        recipe = self.model_copy()
        recipe._root, recipe._text, recipe._source = root, text, source
        recipe._lines = MappingProxyType(dict(lines))
        return recipe

    def __eq__(self, other: object) -> bool:
        # Equal settings are equal recipes, wherever they were written.
        return isinstance(other, Recipe) and self.dump() == other.dump()

    __hash__ = None  # type: ignore[assignment]  # its mappings cannot be hashed either
