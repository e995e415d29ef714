"""What a trial ran on."""

from __future__ import annotations

import os
import platform
import socket
import sys
from typing import Any

import torch

PACKAGES = ("lrscale", "torch", "pytorch_lightning", "lightning", "numpy")
"""Loaded modules whose versions may move a result."""


def describe_environment(accelerator: str) -> dict[str, Any]:
    """Return versions, host and device of this rank."""
    device = torch.cuda.get_device_name() if accelerator == "gpu" else platform.processor() or platform.machine()
    return {
        "versions": {**_versions(), "python": platform.python_version()},
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "accelerator": accelerator,
        "device": device,
        "threads": torch.get_num_threads(),
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
    }


def _versions() -> dict[str, str]:
    # Asked of the loaded modules: reading the metadata of installed packages takes 40 ms.
    found = {name: getattr(sys.modules.get(name), "__version__", None) for name in PACKAGES}
    return {name.replace("_", "-"): str(version) for name, version in found.items() if version is not None}
