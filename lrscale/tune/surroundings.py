"""What a run changes outside of modules and data: random states, environment, flags, handlers, warnings, log levels."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

_LOGS = ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT") if hasattr(signal, name)
)


@contextlib.contextmanager
def untouched_surroundings(device: torch.device) -> Iterator[None]:
    """Put back what runs change in this process, whatever way they end. Lightning is quiet inside.

    A process group that the first run of a rank had to form stays: the next Trainer uses it.

    Parameters
    ----------
    device : torch.device
        Where this rank trains.

    Raises
    ------
    KeyboardInterrupt
        Where Lightning made an interrupt into an exit, which would end a notebook's kernel.
    """
    with contextlib.ExitStack() as stack:
        for keep in (_random_states(device), _environment(), _torch_flags(), _handlers(), _quiet()):
            stack.enter_context(keep)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        try:
            yield
        except SystemExit as ended:
            if isinstance(ended.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


@contextlib.contextmanager
def _random_states(device: torch.device) -> Iterator[None]:
    python, legacy, own = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    accelerator: Any = getattr(torch, device.type, None) if device.type != "cpu" else None
    # Reading the state of a device that was never used initialises it, which a run there does anyway.
    there = accelerator.get_rng_state(*_place(device)) if hasattr(accelerator, "get_rng_state") else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.default_generator.set_state(own)
        if there is not None:
            accelerator.set_rng_state(there, *_place(device))


def _place(device: torch.device) -> tuple[Any, ...]:
    return (device,) if device.type == "cuda" else ()


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


@contextlib.contextmanager
def _torch_flags() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    strict, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    anomaly, dtype, threads = torch.is_anomaly_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        torch.set_anomaly_enabled(anomaly)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def _handlers() -> Iterator[None]:
    main = threading.current_thread() is threading.main_thread()
    before = {one: signal.getsignal(one) for one in _SIGNALS} if main else {}
    try:
        yield
    finally:
        for one, handler in before.items():
            # None stands for one that was not installed from Python, which cannot be put back from here.
            if handler is not None and signal.getsignal(one) is not handler:
                signal.signal(one, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in _LOGS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
