"""A logger of the user's, and a finished trial as a run of it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from lrscale.errors import TaskError
from lrscale.store import Trajectory, Trial
from lrscale.training.instantiate import build_value, check_arguments, import_object, init_args, signature_of

RUNS_OF = {
    "WandbLogger": ("name", "project"),
    "CometLogger": ("name", "project"),
    "MLFlowLogger": ("run_name", "experiment_name"),
}
"""Class -> the arguments that name a run, and what its runs are kept under. Others are asked for their parameters."""
NEVER_SHARED = ("version", "run_name", "run_id", "id", "experiment", "experiment_key")
"""Arguments by which all trials would become one run."""
ENDED_BY = {"WandbLogger": "finish", "CometLogger": "end"}
"""Class -> method of its experiment that ends the run: `finalize` leaves it open, and the next trial would be added."""
MLFLOW_STORE = "sqlite:///mlflow.db"
"""Where MLflow keeps runs when nobody has said where: beside the study's other logs."""
MLFLOW_BATCH = 1000
"""Most metrics that MLflow takes at once (its REST API, ``runs/log-batch``)."""
SHOWN = ("lr", "train_loss", "val_loss", "examples")
"""Columns of a trajectory that a run has, against the step."""
MOST_OF_ONE_NAME = 1000
WELL = frozenset({"completed", "stopped"})


@final
class UserLogger:
    """Makes a run of a Lightning logger for each trial.

    Parameters
    ----------
    entry : mapping
        ``class_path`` and ``init_args`` of the logger.
    where : str
        Its place in the recipe, for messages.
    study : str
        Name of the study; runs are kept under it where the recipe does not say otherwise.

    Raises
    ------
    TaskError
        When the class is not there, or has no argument by which a run gets a name.
    """

    def __init__(self, entry: Mapping[str, Any], where: str, study: str) -> None:
        self._kind = import_object(entry["class_path"])
        self._where, self._label = where, str(entry["class_path"])
        names = {ancestor.__name__ for ancestor in getattr(self._kind, "__mro__", ())}
        own = next((pair for name, pair in RUNS_OF.items() if name in names), None)
        self._run_argument, group = own or self._asked()
        given = {name: build_value(value, where) for name, value in init_args(entry).items()}
        self.left_out = [name for name in given if name in NEVER_SHARED or name == self._run_argument]
        """Arguments that are not kept: a trial is a run of its own and has its own name."""
        self._arguments = {name: value for name, value in given.items() if name not in self.left_out}
        if group is not None:
            self._arguments.setdefault(group, study)
        if self._needs("save_dir"):
            # Two loggers with folders of runs must not meet in one.
            self._arguments.setdefault("save_dir", self._kind.__name__.removesuffix("Logger").lower())
        if "MLFlowLogger" in names and not {"tracking_uri", "save_dir"} & given.keys():
            # MLflow 3 refuses its store of plain files, which Lightning takes where it is told nothing.
            self._arguments["tracking_uri"] = os.environ.get("MLFLOW_TRACKING_URI") or MLFLOW_STORE
        self._ends = next((method for name, method in ENDED_BY.items() if name in names), None)
        self._in_batches = "MLFlowLogger" in names and not self._arguments.get("prefix")

    def open(self, trial_id: str, begun: int = 0) -> Any:
        """Return a logger whose run is named after a trial, and by a further number where that name is taken.

        Parameters
        ----------
        trial_id : str
        begun : int, optional
            Runs of this trial that were begun before, and not ended. Default 0.

        Raises
        ------
        TaskError
            When the class does not take its arguments.
        """
        for number in range(begun + 1, begun + MOST_OF_ONE_NAME):
            name = trial_id if number == 1 else f"{trial_id}-{number}"
            arguments = check_arguments(
                self._kind, {**self._arguments, self._run_argument: name}, self._where, self._label
            )
            logger = self._kind(**arguments)
            if not _is_used(getattr(logger, "log_dir", None)):
                return logger
        raise TaskError(f"{self._label} has {MOST_OF_ONE_NAME} runs of trial {trial_id}", hint="remove some")

    def log_course(self, logger: Any, trial: Trial, trajectory: Trajectory) -> None:
        """Give a run the trajectory of its trial, each step once, and its result at the last one."""
        rows = rows_of(trajectory)
        last = max(rows, default=0)
        if not takes_metrics(logger):
            rows[last] = {**rows.get(last, {}), **results_of(trial)}
        if self._in_batches:
            # A request for each step of each trial takes a tracking server minutes.
            from mlflow.entities import Metric

            now = int(1000 * time.time())
            points = [Metric(name, value, now, step) for step, row in rows.items() for name, value in row.items()]
            for first in range(0, len(points), MLFLOW_BATCH):
                logger.experiment.log_batch(logger.run_id, metrics=points[first : first + MLFLOW_BATCH])
            return
        for step, row in sorted(rows.items()):
            logger.log_metrics(row, step=step)

    def end(self, logger: Any, status: str) -> None:
        """Close a run, as successful where the trial came to its end."""
        well = status in WELL
        logger.finalize("success" if well else "failed")
        if self._ends == "finish":
            logger.experiment.finish(exit_code=0 if well else 1)
        elif self._ends is not None:
            getattr(logger.experiment, self._ends)()

    def _asked(self) -> tuple[str, str | None]:
        """Return the argument that names a run, and the one that its runs are kept under, by the usual names."""
        signature = signature_of(self._kind)
        parameters = {} if signature is None else dict(signature.parameters)
        if "version" in parameters:
            return "version", "name" if "name" in parameters else None
        for name in ("run_name", "name"):
            if name in parameters:
                return name, None
        raise TaskError(
            f"{self._where}: {self._label} has no argument version, run_name or name, by which a trial would be told",
            hint="derive a class from it that has",
        )

    def _needs(self, name: str) -> bool:
        signature = signature_of(self._kind)
        parameter = None if signature is None else signature.parameters.get(name)
        return parameter is not None and parameter.default is parameter.empty


def log_settings(logger: Any, trial: Trial, study: str, experiment: str) -> None:
    """Give a run the settings of its trial and how it ended."""
    settings = settings_of(trial, study, experiment)
    if takes_metrics(logger):
        # TensorBoard compares runs by the metrics that were named together with the settings.
        logger.log_hyperparams(settings, metrics=results_of(trial))
    else:
        logger.log_hyperparams(settings)


def settings_of(trial: Trial, study: str, experiment: str) -> dict[str, str | int | float]:
    """Return what a trial was and how it ended, as plain values."""
    spec, record = trial.spec, trial.record
    settings: dict[str, Any] = {
        "study": study,
        "experiment": experiment,
        "trial": trial.trial_id,
        "status": record.status,
        "peak_lr": spec.peak_lr,
        "global_batch_size": spec.global_batch_size,
        "schedule": spec.label,
        "warmup_steps": spec.schedule.warmup_steps,
        "horizon_steps": spec.horizon,
        "seed": spec.seed,
        "batch_schedule": None if spec.batch_schedule is None else spec.batch_schedule.label,
        "branches_off": None if spec.branch is None else f"{spec.branch.trial_id} at {spec.branch.position}",
        "reason": record.reason,
        **spec.overrides,
    }
    if record.layout is not None:
        settings |= {
            "per_device_batch_size": record.layout.per_device_batch_size,
            "accumulate_grad_batches": record.layout.accumulate,
            "world_size": record.layout.world_size,
        }
    plain = (str, int, float)
    return {
        name: value if isinstance(value, plain) else str(value) for name, value in settings.items() if value is not None
    }


def results_of(trial: Trial) -> dict[str, float]:
    """Return the losses that a trial ended with, as far as it has them."""
    record = trial.record
    found = {"final_loss": record.final_loss, "best_loss": record.best_loss}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def rows_of(trajectory: Trajectory) -> dict[int, dict[str, float]]:
    """Return what is known at each step; a validation joins the step that it came after."""
    rows: dict[int, dict[str, float]] = {}
    for place in range(len(trajectory)):
        row = rows.setdefault(int(trajectory["step"][place]), {})
        row |= {name: value for name in SHOWN if math.isfinite(value := float(trajectory[name][place]))}
    return rows


def takes_metrics(logger: Any) -> bool:
    """Whether a logger takes results together with settings."""
    signature = signature_of(logger.log_hyperparams)
    return signature is not None and "metrics" in signature.parameters


def _is_used(folder: Any) -> bool:
    if not isinstance(folder, (str, Path)):
        return False
    path = Path(folder)
    return path.is_dir() and any(path.iterdir())
