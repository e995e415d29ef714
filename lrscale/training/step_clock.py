"""How long each optimizer step takes, on a device that may run behind the host."""

from __future__ import annotations

import time
from typing import Any, final

import torch


@final
class StepClock:
    """Times steps from the end of one to the end of the next.

    A GPU runs behind the host that fills its queue, so the host's clock would time the filling. There, an event is put
    into the queue after each step and read at the next exchange, which waits for the device anyway.

    Parameters
    ----------
    device : torch.device
        Where the module runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._began = time.perf_counter()
        self._last = self._began
        self._marks: list[tuple[Any, Any]] = []
        self._last_event = self._event()
        self._ends: list[float] = []
        self.seconds: list[float] = []

    @property
    def elapsed(self) -> float:
        """Seconds since training began, validation included."""
        return time.perf_counter() - self._began

    def step(self) -> None:
        """Mark the end of a step."""
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._ends.append(now - self._began)
        self._last = now
        if self._cuda:
            event = self._event()
            self._marks.append((self._last_event, event))
            self._last_event = event

    def mean_of_last(self, count: int) -> float:
        """Return the mean time of the last steps as the host saw them."""
        return sum(self.seconds[-count:]) / max(1, count)

    def settle(self, count: int) -> list[float]:
        """Return when each of the last steps ended, in seconds since training began, with the device's times put in.

        The device must have finished those steps.
        """
        for index, (before, after) in enumerate(self._marks):
            self.seconds[len(self.seconds) - len(self._marks) + index] = before.elapsed_time(after) / 1000
        ends, self._ends, self._marks = self._ends[-count:], [], []
        return ends

    def resume(self) -> None:
        """Leave the time since the last step out of the next one."""
        self._last = time.perf_counter()
        self._last_event = self._event()

    def _event(self) -> Any:
        if not self._cuda:
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        event.record()
        return event
