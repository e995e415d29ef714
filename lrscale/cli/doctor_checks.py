"""What of the environment can be seen without training: each function is one check and returns how it went."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from lrscale.cli.text import count

LEAST_PYTHON = (3, 10)
LEAST_DISK, LITTLE_DISK = 100 * 2**20, 2**30
"""Bytes. A study of 60 short trials takes about 20 MB, so that the first bound holds five of them."""
LITTLE_SHARED_MEMORY = 256 * 2**20
"""Bytes: data-loader workers pass batches through /dev/shm, and containers give it 64 MiB unless told otherwise."""
REQUIRED = (
    "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "seaborn", "jinja2", "pydantic", "pyyaml", "filelock",
    "jsonargparse", "scikit-learn", "psutil",
)  # fmt: skip
_SMI_QUERY = ("--query-gpu=name,memory.total,memory.used", "--format=csv,noheader,nounits")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How one check went. Apart from the checks of findings, so that it can say that their packages are missing."""

    name: str
    status: Literal["PASS", "WARNING", "FAIL", "INFO"]
    sentence: str
    remedy: str | None = None


def installed(package: str) -> str | None:
    """Return the version of an installed distribution, or None; nothing is imported."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_python() -> Check:
    """Whether this Python is new enough."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < LEAST_PYTHON:
        return Check(name="python", status="FAIL", sentence=f"{version} is older than 3.10", remedy="use a newer one")
    return Check(name="python", status="PASS", sentence=f"{version} ({sys.executable})")


def check_packages() -> Check:
    """Whether the packages that planning, fitting and reporting need are there."""
    missing = [name for name in REQUIRED if installed(name) is None]
    if missing:
        return Check(
            name="packages",
            status="FAIL",
            sentence=f"not installed: {', '.join(missing)}",
            remedy=f"pip install {' '.join(missing)}",
        )
    return Check(name="packages", status="PASS", sentence="all that planning, fitting and reporting need")


def check_torch() -> Check:
    """Whether torch is installed; whether it works is what the two ranks show."""
    version = installed("torch")
    if version is None:
        return Check(name="torch", status="FAIL", sentence="torch is not installed", remedy="pip install torch")
    return Check(name="torch", status="PASS", sentence=version)


def check_lightning() -> Check:
    """Whether modules of both spellings can be trained."""
    plain, unified = installed("pytorch-lightning"), installed("lightning")
    if plain is None:
        return Check(
            name="lightning",
            status="FAIL",
            sentence="pytorch-lightning is not installed",
            remedy="pip install pytorch-lightning",
        )
    if unified is None:
        return Check(
            name="lightning",
            status="WARNING",
            sentence=f"pytorch-lightning {plain}; modules that derive from lightning.pytorch cannot be trained",
            remedy="for such modules: pip install lightning",
        )
    return Check(name="lightning", status="PASS", sentence=f"pytorch-lightning {plain}, lightning {unified}")


def check_accelerators() -> Check:
    """Which GPUs trials would use, and whether something else holds their memory."""
    from lrscale.launch.devices import visible_gpus

    gpus = visible_gpus()
    if not gpus:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES") is not None
        why = "CUDA_VISIBLE_DEVICES hides them" if hidden else "nvidia-smi lists none"
        return Check(name="accelerators", status="INFO", sentence=f"no GPU ({why}): trials run on the CPU")
    described = _describe_gpus()
    if not described:
        return Check(name="accelerators", status="PASS", sentence=count(len(gpus), "GPU"))
    busy = [index for index, (_, total, used) in enumerate(described) if used > 0.1 * total]
    sentence = f"{count(len(gpus), 'visible GPU')}: " + ", ".join(sorted({name for name, _, _ in described}))
    if busy:
        return Check(
            name="accelerators",
            status="WARNING",
            sentence=f"{sentence}; memory of GPU {', '.join(map(str, busy))} is in use",
            remedy="throughput and memory limits are wrong while something else runs; pick idle GPUs with "
            "CUDA_VISIBLE_DEVICES",
        )
    return Check(name="accelerators", status="PASS", sentence=sentence)


def check_cores() -> Check:
    """Whether two ranks have a core each, and whether another setting decides about their threads."""
    from lrscale.launch.devices import cpu_count

    cores = cpu_count()
    try:
        load = os.getloadavg()[0]
    except OSError:
        load = 0.0
    sentence = f"{count(cores, 'core')}, load {load:.1f}; each rank gets its share of the cores as threads"
    if cores == 1:
        return Check(
            name="cores",
            status="WARNING",
            sentence=sentence,
            remedy="two ranks would share one core; use layout.devices=1 on CPU",
        )
    if load > cores:
        return Check(
            name="cores",
            status="WARNING",
            sentence=sentence,
            remedy="the machine is busy: losses are right, times and throughput are not",
        )
    return Check(name="cores", status="PASS", sentence=sentence)


def check_folder(folder: Path) -> Check:
    """Whether a study can be written here."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".lrscale-"):
            pass
    except OSError as error:
        return Check(
            name="folder",
            status="FAIL",
            sentence=f"{folder} cannot be written: {error.strerror}",
            remedy="change to a folder of yours, or use --study",
        )
    return Check(name="folder", status="PASS", sentence=f"{folder} can be written")


def check_disk(folder: Path) -> Check:
    """Whether there is room for a study."""
    free = shutil.disk_usage(folder).free
    sentence = f"{free / 2**30:.1f} GiB free"
    if free < LEAST_DISK:
        return Check(name="disk", status="FAIL", sentence=sentence, remedy="free space, or use --study elsewhere")
    if free < LITTLE_DISK:
        return Check(name="disk", status="WARNING", sentence=sentence, remedy="a long study may run out of it")
    return Check(name="disk", status="PASS", sentence=sentence)


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """Whether data-loader workers can pass batches."""
    if not folder.is_dir():
        return Check(name="shared memory", status="INFO", sentence=f"{folder} does not exist on this system")
    free = shutil.disk_usage(folder).free
    sentence = f"{free / 2**20:.0f} MiB free in {folder}"
    if free < LITTLE_SHARED_MEMORY:
        return Check(
            name="shared memory",
            status="WARNING",
            sentence=sentence,
            remedy="data loaders with workers may die with a bus error; start the container with --shm-size=1g, or "
            "use num_workers: 0",
        )
    return Check(name="shared memory", status="PASS", sentence=sentence)


def environment_checks(folder: Path) -> tuple[Check, ...]:
    """Return all checks of the environment that need no training."""
    return (
        check_python(),
        check_packages(),
        check_torch(),
        check_lightning(),
        check_accelerators(),
        check_cores(),
        check_folder(folder),
        check_disk(folder),
        check_shared_memory(),
    )


def _describe_gpus() -> list[tuple[str, float, float]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        answer = subprocess.run([program, *_SMI_QUERY], capture_output=True, text=True, timeout=30, check=True).stdout
        rows = [line.rsplit(",", 2) for line in answer.splitlines() if line.strip()]
        return [(name.strip(), float(total), float(used)) for name, total, used in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        # A driver that does not answer, or MIG slices, whose memory reads "[N/A]": names are a nicety here.
        return []
