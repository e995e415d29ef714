"""The ranks of one trial as a job of Ray Train: what runs in the process that supervises them, and in each rank."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, final

from lrscale.training.rank import COLLECTIVE_TIMEOUT, main

START_TIMEOUT = 600
"""Seconds that the ranks get to be placed and to load torch; Ray's own minute is short for a cold file system."""
POLL = 0.2
"""Seconds between Ray Train's looks at its ranks; its own two seconds are long for trials of a few seconds."""
STACKS_BEFORE = 0.5
"""Seconds before the limit of its time at which a rank writes where it is."""
WORDS = 300
"""Characters kept of what Ray says about a lost rank."""


@final
class RankEndedError(Exception):
    """Makes Ray Train end the other ranks once one has failed: a collective would block them for ever.

    Parameters
    ----------
    code : int
        What the rank's own entry returned.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@final
class FolderNotSeenError(Exception):
    """The node of a rank does not see the study folder.

    Parameters
    ----------
    node : str
        Its name.
    """

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.node = node


def run_group(group: Mapping[str, Any]) -> dict[str, Any]:
    """Run the ranks of one job to their end, and return how each ended.

    Parameters
    ----------
    group : mapping
        ``job`` and ``folder`` (paths that all nodes see), ``world_size``, ``gpu`` (whether a rank has one), ``cpus`` of
        a rank, ``placement`` (Ray's strategy), ``environment`` (variables), ``limit`` (seconds or None).

    Returns
    -------
    dict
        ``codes``: exit code by rank, of those that told one; ``lost``: what Ray says of ranks that did not, or of the
        job as a whole under ``""``; ``unseen``: name of a node that does not see the folder, else None.
    """
    _set_up_ray_train()
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    scratch = Path(group["folder"]) / "ray-train"
    # Ranks on one device share it; with a device each, gloo and NCCL are Ray's own choice for CPU and GPU.
    trainer = TorchTrainer(
        run_rank,
        train_loop_config=dict(group),
        torch_config=TorchConfig(timeout_s=int(COLLECTIVE_TIMEOUT.total_seconds())),
        scaling_config=ScalingConfig(
            num_workers=group["world_size"],
            use_gpu=group["gpu"],
            resources_per_worker={"CPU": group["cpus"], **({"GPU": 1} if group["gpu"] else {})},
            placement_strategy=group["placement"],
        ),
        run_config=RunConfig(name="trial", storage_path=str(scratch)),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        return _how_it_ended(error)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {"codes": dict.fromkeys(range(group["world_size"]), 0), "lost": {}, "unseen": None}


def run_rank(group: Mapping[str, Any]) -> None:
    """Run one rank, in a process of Ray Train whose process group stands already.

    Raises
    ------
    RankEndedError
        When the rank has failed; what it published says how.
    FolderNotSeenError
        When the job is not there.
    """
    import ray.train
    import ray.util

    folder, rank = Path(group["folder"]), ray.train.get_context().get_world_rank()
    if not Path(group["job"]).exists():
        raise FolderNotSeenError(ray.util.get_node_ip_address())
    os.environ.update(group["environment"])
    # Ranks of other launchers run where the driver was started; a task may read files from there.
    with contextlib.suppress(OSError):
        os.chdir(group["working_folder"])
    with _own_log(folder / f"rank-{rank}.log") as log:
        with _stacks_before(group["limit"], log):
            code = main(group["job"])
    if code != 0:
        raise RankEndedError(code)


@contextlib.contextmanager
def _own_log(path: Path) -> Iterator[TextIO]:
    """Send what the rank prints, from Python and from C, to the log of its trial; what Ray says later stays Ray's."""
    with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
        log.reconfigure(line_buffering=True)
        _flush()
        kept = [(number, os.dup(number)) for number in (1, 2)]
        for number, _ in kept:
            os.dup2(log.fileno(), number)
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield log
        finally:
            _flush()
            for number, before in kept:
                os.dup2(before, number)
                os.close(before)


@contextlib.contextmanager
def _stacks_before(limit: float | None, log: TextIO) -> Iterator[None]:
    """Write where the rank is, shortly before the driver ends it for its time."""
    if limit is None:
        yield
        return
    # Ray runs the rank in a thread that is not the main one, whose stack is looked for: it is written last. Where a
    # call of C keeps the interpreter, only faulthandler gets through.
    wait, thread = max(limit - STACKS_BEFORE, 0.1), threading.get_ident()
    faulthandler.dump_traceback_later(wait, file=log)
    timer = threading.Timer(wait + STACKS_BEFORE / 5, _write_stack, (thread, log))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        timer.cancel()


def _write_stack(thread: int, log: TextIO) -> None:
    # In faulthandler's own form, which is read from the log of a rank that was out of time.
    frame, lines = sys._current_frames().get(thread), ["The rank (most recent call first):"]
    while frame is not None:
        lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
        frame = frame.f_back
    with contextlib.suppress(ValueError, OSError):
        log.write("\n".join(lines) + "\n")
        log.flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()


def _set_up_ray_train() -> None:
    # Read by Ray Train where the job is described, and handed on to the processes that it starts.
    os.environ.update(
        {
            "RAY_TRAIN_V2_ENABLED": "1",
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(START_TIMEOUT),
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL),
            "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
            "RAY_TRAIN_METRICS_ENABLED": "0",
            "RAY_CHDIR_TO_TRIAL_DIR": "0",
        }
    )


def _how_it_ended(error: Any) -> dict[str, Any]:
    codes: dict[int, int] = {}
    lost: dict[str, str] = {}
    unseen = None
    failures = getattr(error, "worker_failures", None)
    for rank, failure in ({"": error} if failures is None else failures).items():
        cause = getattr(failure, "_base_exc", failure)
        told = _cause(cause)
        if isinstance(told, RankEndedError):
            codes[int(rank)] = told.code
        elif isinstance(told, FolderNotSeenError):
            unseen = told.node
        else:
            lost[str(rank)] = _words(told)
    return {"codes": codes, "lost": lost, "unseen": unseen}


def _cause(error: BaseException) -> BaseException:
    # Ray wraps what a rank raised, more than once where it crossed several processes.
    seen = error
    for _ in range(5):
        if isinstance(seen, (RankEndedError, FolderNotSeenError)):
            return seen
        inner = getattr(seen, "cause", None) or seen.__cause__
        if not isinstance(inner, BaseException):
            break
        seen = inner
    return error


def _words(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)}"[:WORDS]
