"""A member of a worker group, as torchrun or srun would start it: the leader runs trials whose acts files tell.

    python group.py STUDY TASKS

The study folder holds ``requests.json``; records and notes are appended to ``told.jsonl``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path

import lrscale.launch.nodes.launcher
import lrscale.launch.processes.forkserver
import lrscale.launch.processes.group
from lrscale.errors import LrscaleError
from lrscale.launch import AllocationLauncher, LaunchSettings, TrialRequest
from lrscale.launch.nodes import Gathering, detect, follow
from lrscale.launch.progress import AbstractProgress
from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.units import Layout


class Told(AbstractProgress):
    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, text: str) -> None:
        self.tell(note=text)

    def tell(self, **what: object) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps(what) + "\n")


def request(study: Path, number: int, wanted: dict[str, object]) -> TrialRequest:
    layout = Layout(per_device_batch_size=1, **wanted["layout"])
    spec = TrialSpec(
        task={},
        schedule=ScheduleSpec(name="constant"),
        peak_lr=1.0,
        global_batch_size=layout.global_batch_size,
        horizon=1,
        seed=number,
    )
    folder = study / "trials" / str(number)
    folder.mkdir(parents=True)
    (folder / "acts.json").write_text(json.dumps(wanted["acts"]))
    return TrialRequest(spec=spec, layout=layout, folder=folder)


def main() -> int:
    study, tasks = Path(sys.argv[1]), Path(sys.argv[2])
    lrscale.launch.processes.forkserver.core_modules = lambda: ("json",)
    lrscale.launch.nodes.launcher.core_modules = lambda: ("json",)
    lrscale.launch.processes.group.ENTRY = "node_ranks"
    allocation = detect(os.environ)
    if not allocation.leads:
        return follow(allocation, study)
    asked = json.loads((study / "requests.json").read_text())
    told = Told(study / "told.jsonl")
    settings = LaunchSettings(root=tasks, accelerator="cpu", study=study, **asked.get("settings", {}))
    with Gathering(allocation, study) as gathering:
        try:
            with AllocationLauncher(settings, gathering) as launcher:
                requests = [request(study, number, wanted) for number, wanted in enumerate(asked["requests"])]
                numbers = {one.spec.trial_id: number for number, one in enumerate(requests)}
                for place in range(0, len(requests), asked.get("round", len(requests))):
                    for record in launcher.run(requests[place : place + asked.get("round", len(requests))], told):
                        told.tell(record=dataclasses.asdict(record), number=numbers[record.trial_id])
                    while "between" in asked and not (study / asked["between"]).exists():
                        time.sleep(0.05)
        except LrscaleError as error:
            told.tell(error=str(error))
            gathering.end(error.exit_code)
            return error.exit_code
        gathering.end(asked.get("code", 0))
    return int(asked.get("code", 0))


if __name__ == "__main__":
    sys.exit(main())
