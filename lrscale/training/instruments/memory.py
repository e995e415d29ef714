"""The instrument that measures the peak memory of a trial, of whatever rank needs the most."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Any, final

import torch

from lrscale.errors import LrscaleError
from lrscale.training.instruments.base import INSTRUMENTS, AbstractInstrument

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where version 2 and version 1 of Linux control groups say what a container may use."""


@final
@INSTRUMENTS.register("memory")
class MemoryInstrument(AbstractInstrument):
    """Measures peak memory and holds the ranks to a limit.

    On CUDA the peak is what PyTorch's allocator reserved at most, plus what else lies on the device by the end: the
    context, communication buffers, other processes. An allocation that had to flush the cache first is counted: a size
    that trains only so is slow and about to fail.

    On CPU the peak is the resident set's high-water mark of the process, an approximation: it holds the libraries, and
    memory that was freed and kept. There a rank whose peak passes the limit raises an out-of-memory error at the next
    hook, since the machine itself would not fail but swap, or kill a process of its own choice.

    Parameters
    ----------
    limit : int or None, optional
        Bytes that a rank may use. Default None: the device's memory; on CPU a rank's share of what the machine has
        free, or of the container's limit.
    """

    def __init__(self, *, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise LrscaleError(f"a limit of {limit} bytes holds nothing", hint="leave it out, or raise it")
        self._limit = limit
        self._device = torch.device("cpu")
        self._ranks = 1
        self._capacity: int | None = limit
        self._phase: str | None = "start"
        self._validated = False
        self._agreed: dict[str, int] | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Learn how much there is."""
        del pl_module
        self._device = trainer.strategy.root_device
        self._ranks = int(trainer.world_size)
        if self._capacity is None:
            self._capacity = self._available(int(getattr(trainer, "num_devices", 1)))
        self._enter("data")

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Enter the forward."""
        del trainer, pl_module, batch, batch_idx
        self._enter("forward")

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Enter the backward."""
        del trainer, pl_module, loss
        self._enter("backward")

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Enter the optimizer's step."""
        del trainer, pl_module, optimizer
        self._enter("optimizer step")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look back on the step."""
        del trainer, pl_module, outputs, batch, batch_idx
        self._enter("data")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Enter validation."""
        del trainer, pl_module
        self._enter("validation")

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Look back on a batch."""
        del trainer, pl_module, outputs, batch, batch_idx, dataloader_idx
        self._validated = True
        self._enter("validation")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave validation."""
        del trainer, pl_module
        self._enter("data")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Agree with the other ranks: the one that needs the most counts, and one that is gone ends this trial."""
        del trainer, pl_module
        seen = self._seen()
        names = sorted(seen)
        values = torch.tensor([seen[name] for name in names], dtype=torch.int64, device=self._device)
        capacity = torch.tensor([self._capacity or 0], dtype=torch.int64, device=self._device)
        if self._ranks > 1:
            torch.distributed.all_reduce(values, op=torch.distributed.ReduceOp.MAX)
            torch.distributed.all_reduce(capacity, op=torch.distributed.ReduceOp.MIN)
        self._agreed = dict(zip(names, values.tolist(), strict=True))
        self._capacity = int(capacity) or None
        self._phase = None

    def measurement(self) -> dict[str, Any]:
        """Return bytes of the worst rank; of a trial that did not end well, those of this rank and where it ended."""
        return {
            "kind": self._device.type,
            "finished": self._agreed is not None,
            "ended_in": self._phase,
            "validated": self._validated,
            "capacity": self._capacity,
            "limited": self._limit is not None,
            **(self._agreed or self._seen()),
        }

    def remarks(self) -> list[str]:
        """Say when the allocator ran against the end of the memory."""
        retries = (self._agreed or {}).get("alloc_retries", 0)
        if not retries:
            return []
        return [f"memory was so short that the allocator flushed its cache {retries} times to go on"]

    def _enter(self, phase: str) -> None:
        if self._device.type == "cpu" and self._capacity is not None:
            peak = resident_peak()
            if peak > self._capacity:
                raise torch.OutOfMemoryError(
                    f"out of memory in {self._phase}: the process has used {peak / 2**20:,.0f} MiB of the "
                    f"{self._capacity / 2**20:,.0f} MiB that a rank may use"
                )
        self._phase = phase

    def _available(self, ranks: int) -> int | None:
        if self._device.type == "cuda":
            return int(torch.cuda.mem_get_info(self._device)[1])
        if self._device.type != "cpu":
            return None
        free = host_memory()
        return None if free is None else free // max(1, ranks) + resident_peak()

    def _seen(self) -> dict[str, int]:
        if self._device.type != "cuda":
            return {"peak": resident_peak(), "allocated": 0, "reserved": 0, "outside": 0, "alloc_retries": 0}
        allocated = torch.cuda.max_memory_allocated(self._device)
        reserved = torch.cuda.max_memory_reserved(self._device)
        free, total = torch.cuda.mem_get_info(self._device)
        outside = max(0, total - free - torch.cuda.memory_reserved(self._device))
        retries = int(torch.cuda.memory_stats(self._device).get("num_alloc_retries", 0))
        return {
            "peak": reserved + outside,
            "allocated": allocated,
            "reserved": reserved,
            "outside": outside,
            "alloc_retries": retries,
        }


def resident_peak() -> int:
    """Return the most bytes of physical memory that this process has used so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The manual pages: kilobytes on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else 1024 * peak


def host_memory() -> int | None:
    """Return the bytes that this machine or container still has to give, or None where it does not say."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(path).read_text(encoding="ascii")))
    if not found:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)
