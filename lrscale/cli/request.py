"""What a command was asked to do, apart from doing it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from lrscale.launch.nodes import Gathering
    from lrscale.recipe import Recipe
    from lrscale.store import StudyFolder


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRequest:
    """A recipe, where its study lies, and what the command line sets otherwise.

    Examples
    --------
    >>> request = StudyRequest(command="run", recipe="digits", devices=2, overrides=("seed=1",))
    >>> request.again()
    'lrscale run digits --devices 2 --set seed=1'
    >>> request.all_overrides()
    ('layout.devices=2', 'seed=1')
    """

    command: str
    """Name of the command, for example ``"run"``."""
    recipe: str
    """Path of a recipe, or the name of a built-in one."""
    study: Path | None = None
    """Study folder; None for ``<name of the recipe>-study`` in the current folder."""
    devices: int | None = None
    num_nodes: int | None = None
    launcher: str | None = None
    """Where trials run; None for the ranks of torchrun or srun where there are some, else ``"local"``."""
    address: str | None = None
    """Address of a Ray cluster."""
    budget: str | None = None
    """What the study may spend; sets ``cost.budget``."""
    price: str | None = None
    """Price of a device-hour; sets ``cost.price``."""
    throughput: str | None = None
    """Speed that stands in until trials have measured one; sets ``cost.throughput``."""
    overrides: tuple[str, ...] = ()
    """``key=value`` each, applied in order after the short options above."""
    given: tuple[str, ...] = ()
    """``key=value`` of the ranks that torchrun or srun has given, applied before all others."""
    gathering: Gathering | None = None
    """Where the processes that torchrun or srun has started meet; None outside of them."""

    def all_overrides(self) -> tuple[str, ...]:
        """Return the overrides of the recipe, those of the short options included."""
        short = []
        if self.devices is not None:
            short.append(f"layout.devices={self.devices}")
        if self.num_nodes is not None:
            short.append(f"layout.num_nodes={self.num_nodes}")
        for name in ("budget", "price", "throughput"):
            if getattr(self, name) is not None:
                short.append(f"cost.{name}={getattr(self, name)}")
        return (*self.given, *short, *self.overrides)

    def again(self) -> str:
        """Return the command that does the same once more."""
        kind = None if self.gathering is None else self.gathering.allocation.kind
        around = {None: [], "srun": ["srun", "..."], "torchrun": ["torchrun", "...", "-m"]}[kind]
        words = [*around, "lrscale", self.command, self.recipe]
        for option, value in (
            ("--study", self.study),
            ("--devices", self.devices),
            ("--num-nodes", self.num_nodes),
            ("--launcher", self.launcher),
            ("--address", self.address),
            ("--budget", self.budget),
            ("--price", self.price),
            ("--throughput", self.throughput),
        ):
            if value is not None:
                words += [option, str(value)]
        for override in self.overrides:
            words += ["--set", override]
        return shlex.join(words)

    def load(self) -> tuple[Recipe, StudyFolder]:
        """Return the recipe and the study folder, neither of them written to.

        Raises
        ------
        LrscaleError
            For a recipe that cannot be read or does not validate.
        """
        from lrscale.recipe import load_recipe
        from lrscale.store import StudyFolder

        recipe = load_recipe(self.recipe, self.all_overrides())
        if recipe.layout.trials_at_once == "auto":
            from lrscale.launch.at_once import trials_side_by_side

            layout = recipe.layout
            allocation = None if self.gathering is None else self.gathering.allocation
            launcher = self.launcher or (allocation.kind if allocation is not None else "local")
            if launcher == "slurm":
                number = recipe.slurm.trials_at_once(layout.devices, layout.num_nodes)
            else:
                number = trials_side_by_side(
                    layout.devices, layout.num_nodes, layout.accelerator, launcher=launcher, allocation=allocation
                )
            recipe = load_recipe(self.recipe, (*self.all_overrides(), f"layout.trials_at_once={number}"))
        return recipe, StudyFolder(self.study if self.study is not None else Path(f"{recipe.name}-study"))
