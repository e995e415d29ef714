"""Builds a task without training it, and tells what was found."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lrscale.errors import LrscaleError, TaskError
from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.training.batches import tensors_of
from lrscale.training.failure import describe_failure
from lrscale.training.hooks import prepare_module, validation_metrics
from lrscale.training.lr_control import LRControl
from lrscale.training.monitor import find_monitor, loss_of
from lrscale.training.sizes import parameter_counts, sequence_length
from lrscale.training.target_size import bare_sizes
from lrscale.training.trainer_setup import trainer_arguments
from lrscale.training.trial import Job, build, built_facts, fit, scratch_folder
from lrscale.units import Layout

LOOK_HORIZON = 100
"""Steps of the trial that the module is told it is in for."""


def inspect_task(job: Job) -> dict[str, Any]:
    """Return the facts about a task: optimizers and groups, data, monitor, where the batch size lives.

    Of a job that has a calibrated task to compare with only the numbers of parameters, from the bare module where that
    tells them.

    The task is built twice, each time in a process of its own, at the job's batch size and at twice that, and the first
    batches are compared: a setting that changes nothing is a decoy. One validation batch is run, to see what is logged.

    Raises
    ------
    TaskError
        When the task cannot be built, its batch size cannot be set, or its validation loss cannot be told.
    """
    if job.calibrated is not None:
        calibrated = job.calibrated
        try:
            sizes = _apart(lambda: (bare_sizes(job, calibrated) or {}, 0))[0]
        except LrscaleError:
            sizes = {}
        return sizes or _look(job, validate=False)[0]
    job = dataclasses.replace(job, layout=Layout(per_device_batch_size=job.layout.per_device_batch_size))
    layout = dataclasses.replace(job.layout, per_device_batch_size=2 * job.layout.per_device_batch_size)
    try:
        doubled = _apart(lambda: _look(dataclasses.replace(job, layout=layout), validate=False))[1]
    except LrscaleError:
        # The data may not hold a batch of twice the size; then there is nothing to compare.
        doubled = 0
    facts, size = _look(job, validate=True)
    if size and doubled == size and facts["data_source"] != "examples":
        raise TaskError(
            f"setting {facts['batch_size_home']} to {job.layout.per_device_batch_size} and to twice that gave batches "
            "of the same size",
            hint="it is not the batch size; name the effective one in task.batch_size",
        )
    return facts


def _look(job: Job, *, validate: bool) -> tuple[dict[str, Any], int]:
    with scratch_folder(job) as scratch:
        built, data = build(job, scratch)
        module = built.module
        arguments, notes = trainer_arguments(
            built.trainer_config,
            built.flavour,
            layout=job.layout,
            accelerator=job.accelerator,
            horizon=LOOK_HORIZON,
            manual=not module.automatic_optimization,
            validate_every=0 if validate and data.has_validation else None,
            scratch=scratch,
            callbacks=[_spy(built.flavour, job)],
        )
        spy = arguments["callbacks"][0]
        if validate and data.has_validation:
            arguments |= {"num_sanity_val_steps": 1, "limit_val_batches": 1}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trainer = built.trainer_class(**arguments)
                prepare_module(module, lambda: trainer, LOOK_HORIZON, 1, built.flavour, notes)
                fit(trainer, built)
        except _SeenError:
            pass
        except LrscaleError:
            raise
        except Exception as error:  # a stranger's module may raise anything; without it no trial would run either
            reason = describe_failure(error).reason
            raise TaskError(
                f"the task cannot be built: {reason}", hint="see that its own training script runs"
            ) from error
        if not spy.facts:
            raise TaskError("the training data gave no batch", hint="use a smaller batch size, or look at the loader")
        facts = {
            **spy.facts,
            **built_facts(built, data),
            "has_validation": data.has_validation,
            "monitor": spy.monitor,
            "notes": list(dict.fromkeys([*data.notes, *notes, *spy.notes])),
        }
        return facts, spy.size


def _apart(look: Callable[[], tuple[dict[str, Any], int]]) -> tuple[dict[str, Any], int]:
    # Some modules cannot be built twice in one process. The child is forked before anything is built or put on a GPU.
    if not hasattr(os, "fork"):
        return look()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answer: Any = None
        try:
            answer = look()
        except LrscaleError as error:
            answer = (error.message, error.hint)
        finally:
            with os.fdopen(write, "wb") as stream:
                pickle.dump(answer, stream)
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        received = stream.read()
    os.waitpid(child, 0)
    answer = pickle.loads(received) if received else None
    if answer is None or not isinstance(answer[0], dict):
        message, hint = answer or ("the process that built it ended early", None)
        raise TaskError(message, hint=hint)
    facts, size = answer
    return facts, int(size)


class _SeenError(Exception):
    """Ends a fit before its first training step."""


class _Spy:
    def __init__(self, job: Job) -> None:
        self._asked = job.spec.task.get("monitor")
        self._returned = False
        self.facts: dict[str, Any] = {}
        self.notes: list[str] = []
        self.monitor: str | None = None
        self.size = 0

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        self._returned = self._returned or loss_of(outputs) is not None

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        del pl_module
        logged = validation_metrics(trainer)
        self.monitor = find_monitor(logged, asked=self._asked, has_returned=self._returned)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        control = LRControl(None, 1.0, LOOK_HORIZON)
        self.facts.update(control.attach(trainer.strategy.optimizers, trainer.strategy.lr_scheduler_configs))
        self.facts.update(parameter_counts(pl_module))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        del trainer, pl_module, batch_idx
        self.size = sum(tensor.numel() for tensor in tensors_of(batch))
        length = sequence_length(batch)
        if length is not None:
            self.facts["sequence_length"] = length
        raise _SeenError


def _spy(flavour: Any, job: Job) -> Any:
    return type("Spy", (_Spy, flavour.get("Callback")), {})(job)


def main() -> int:
    """Inspect the task in the JSON file named on the command line; the last line printed is JSON."""
    plain = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ.setdefault("RANK", "0")
    size = int(plain.get("batch_size", 2))
    spec = TrialSpec(
        task=plain["task"],
        schedule=ScheduleSpec(name="constant"),
        peak_lr=1e-3,
        global_batch_size=size,
        horizon=1,
        seed=0,
        overrides=plain.get("overrides", {}),
    )
    with tempfile.TemporaryDirectory(prefix="lrscale-") as folder:
        job = Job(
            spec=spec,
            layout=Layout(per_device_batch_size=size),
            folder=Path(folder),
            root=Path(plain["root"]),
            import_paths=tuple(plain["task"].get("import_paths") or ["."]),
            accelerator="cpu",
            rank=0,
        )
        torch.set_num_threads(1)
        try:
            facts = inspect_task(job)
            answer: dict[str, Any] = {"facts": facts, "warnings": facts.pop("notes")}
        except LrscaleError as error:
            answer = {"error": {"message": error.message, "hint": error.hint}}
        except Exception as error:  # a stranger's module may raise anything; the caller shows the message
            answer = {"error": {"message": f"{type(error).__name__}: {error}", "hint": None}}
    print(json.dumps(answer, default=str), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
