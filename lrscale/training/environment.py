"""What a trial ran on."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import socket
from typing import Any

import torch

PACKAGES = ("lrscale", "torch", "pytorch-lightning", "lightning", "numpy")


@functools.lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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
