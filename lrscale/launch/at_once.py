"""How many trials fit side by side: what `layout.trials_at_once: auto` stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrscale.errors import LayoutError
from lrscale.launch.devices import cpu_count, resolve_accelerator, visible_gpus

if TYPE_CHECKING:
    from lrscale.launch.nodes import Allocation


def trials_side_by_side(
    devices: int, num_nodes: int, accelerator: str, *, launcher: str = "local", allocation: Allocation | None = None
) -> int:
    """Return how many trials of a layout run at once, at least 1.

    Devices are places: on eight GPUs eight trials of one device, or one of eight. On CPU a core is a place; ranks share
    cores where a trial has more of them. Of several nodes this one stands for the others.

    Parameters
    ----------
    devices, num_nodes : int
        Of one trial.
    accelerator : {"auto", "cpu", "gpu"}
        As the recipe has it.
    launcher : str, optional
        Where trials run. Default ``"local"``.
    allocation : Allocation or None, optional
        Ranks of torchrun or srun, which are the places then; where each node has one, it has all of the node. Default
        None: this machine.

    Raises
    ------
    LayoutError
        For a launcher that does not see the devices before its jobs run, and for GPUs that are not there.
    """
    if launcher not in ("local", "torchrun", "srun"):
        raise LayoutError(
            f"layout.trials_at_once: auto counts devices that are here; the {launcher} launcher takes a number",
            hint="set layout.trials_at_once to the trials that share a node",
        )
    nodes = 1
    if allocation is not None and allocation.local_world_size > 1:
        places = allocation.local_world_size
    else:
        places = len(visible_gpus()) if resolve_accelerator(accelerator) == "gpu" else cpu_count()
    if allocation is not None:
        nodes = allocation.num_nodes
    return max(1, places // devices * nodes // num_nodes)
