"""A command below torchrun or srun: one process carries it out, the others serve it and end as it ends."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from lrscale.cli.guard import FAULT, INTERRUPTED
from lrscale.errors import LayoutError, LrscaleError

if TYPE_CHECKING:
    from lrscale.cli.request import StudyRequest
    from lrscale.launch.nodes import Allocation


def in_worker_group(request: StudyRequest, command: Callable[[StudyRequest], int]) -> int:
    """Carry out a command with the ranks that this process was started with, and return the exit code.

    Without torchrun or srun around it, or as their only process, it is carried out as it is.

    Parameters
    ----------
    request : StudyRequest
        Its launcher is chosen here when it names none, and its layout is that of the ranks where the recipe has none.
    command : callable
        What the leader does.
    """
    from lrscale.launch.nodes import WORKER_GROUPS, Gathering, detect, follow

    allocation = detect(os.environ)
    if allocation is None:
        return command(request)
    # Every process reads the recipe: what is wrong with it ends all with the same code, and the leader says it.
    try:
        recipe, folder = request.load()
        chosen = request
        if request.launcher in (None, *WORKER_GROUPS):
            chosen = dataclasses.replace(request, given=_layout_of_ranks(allocation, recipe.layout.model_fields_set))
            chosen.load()
    except LrscaleError as error:
        if allocation.leads:
            raise
        raise typer.Exit(error.exit_code) from error
    if not allocation.leads:
        return follow(allocation, folder.path)
    with Gathering(allocation, folder.path) as gathering:
        try:
            code = command(dataclasses.replace(chosen, gathering=gathering))
        except BaseException as error:
            gathering.end(_code_of(error))
            raise
        gathering.end(code)
        return code


def _layout_of_ranks(allocation: Allocation, said: set[str]) -> tuple[str, ...]:
    """Return the overrides that give trials all ranks; a layout that the recipe states stays as it is."""
    if "devices" in said or "num_nodes" in said:
        return ()
    devices, rest = divmod(allocation.world_size, allocation.num_nodes)
    if rest:
        raise LayoutError(
            f"{allocation.world_size} ranks cannot be the same number on each of {allocation.num_nodes} nodes",
            hint="start as many on each node, or set layout.devices and layout.num_nodes",
        )
    return (f"layout.devices={devices}", f"layout.num_nodes={allocation.num_nodes}")


def _code_of(error: BaseException) -> int:
    """Return the exit code that `GuardedGroup` gives an error."""
    if isinstance(error, LrscaleError):
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return INTERRUPTED
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    return FAULT if isinstance(error, Exception) else INTERRUPTED
