"""Whether every node of a cluster sees the study folder."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrscale import __version__
from lrscale.errors import StudyError
from lrscale.launch.ray.cluster import Node

PATIENCE = 120.0
"""Seconds that the nodes get to answer; a busy one starts a process within some ten."""


def check_shared(folder: Path, nodes: Sequence[Node]) -> list[str]:
    """Look for a fresh file of this machine from every node.

    Parameters
    ----------
    folder : Path
        Folder of the study, or one in it.
    nodes : sequence of Node
        Those on which ranks may run.

    Returns
    -------
    list of str
        Sentences about nodes that see the folder and are not as this machine is.

    Raises
    ------
    StudyError
        When a node does not see it, or does not have lrscale.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder.mkdir(parents=True, exist_ok=True)
    probe = folder.resolve() / f".probe-{uuid.uuid4().hex}"
    probe.write_text(probe.name, encoding="utf-8")
    look = ray.remote(look_for)
    try:
        asked = {
            look.options(
                num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)
            ).remote(str(probe)): node
            for node in nodes
        }
        ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE)
        answers = [(node.name, _answer(ref)) for ref, node in asked.items()]
    finally:
        probe.unlink(missing_ok=True)
    refuse(folder, answers)
    return [
        f"node {name} has lrscale {answer['version']}, and this machine {__version__}: records may differ"
        for name, answer in answers
        if answer.get("version") not in (None, __version__)
    ]


def look_for(probe: str) -> dict[str, Any]:
    """Tell what a node sees; runs there."""
    path = Path(probe)
    # A network file system may keep a listing for a while; opening the folder anew makes it ask.
    if path.parent.is_dir():
        os.scandir(path.parent).close()
    try:
        seen = path.read_text(encoding="utf-8") == path.name
    except OSError:
        seen = False
    return {"seen": seen, "version": __version__}


def _answer(ref: Any) -> dict[str, Any]:
    import ray

    try:
        answer: dict[str, Any] = ray.get(ref, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return {"seen": True, "version": None}  # Busy: its ranks will say whether they see the job.
    except ray.exceptions.RayError as error:
        return {"seen": False, "error": " ".join(str(error).split())[-200:]}
    return answer


def refuse(folder: Path, answers: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Raise what the answers of the nodes, each with its name, ask for; see `check_shared`."""
    broken = [(name, answer["error"]) for name, answer in answers if "error" in answer]
    if broken:
        name, said = broken[0]
        raise StudyError(
            f"node {name} cannot run lrscale: {said}",
            hint="install the same lrscale, with its packages, on every node of the cluster",
        )
    blind = [name for name, answer in answers if not answer["seen"]]
    if blind:
        raise StudyError(
            f"{', '.join(blind)} {'does' if len(blind) == 1 else 'do'} not see the study folder {folder}",
            hint="put it, with --study, on a file system that all nodes mount at the same path",
        )
