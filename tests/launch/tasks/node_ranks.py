"""Ranks without torch, over several nodes: each takes its own act out of a file of the trial, and says where it is."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import plain

SAID = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "MASTER_ADDR",
    "MASTER_PORT", "GLOO_SOCKET_IFNAME", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE", "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "SLURM_NTASKS", "TEST_NODE",
)  # fmt: skip


def main(job_path: str) -> int:
    folder, rank = Path(job_path).parent, int(os.environ["RANK"])
    facts: dict[str, object] = {name: os.environ.get(name) for name in SAID}
    facts["cores"] = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    job = json.loads(Path(job_path).read_text())
    (folder / f"facts-{rank}.part").write_text(json.dumps({**facts, "job": job, "pid": os.getpid(), "at": time.time()}))
    (folder / f"facts-{rank}.part").rename(folder / f"facts-{rank}.json")
    what, _, rest = json.loads((folder / "acts.json").read_text())[rank].partition(":")
    if what == "hang_once":
        try:
            (folder / f"hung-{rank}").touch(exist_ok=False)
        except FileExistsError:
            what, rest = "publish", "completed"
        else:
            return plain.main(f"family:{folder}")
    if what == "publish":
        time.sleep(0.2)
        outcome = {"kind": "result", "fields": {"status": rest}}
        (folder / f"outcome-{rank}.json").write_text(json.dumps(outcome))
        return 0
    return plain.main(f"{what}:{rest}")
