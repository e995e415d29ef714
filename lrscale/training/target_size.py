"""How large the module of another version of the task would be, without its data and without training it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lrscale.training.build import build_task
from lrscale.training.sizes import parameter_counts
from lrscale.training.trial import Job, scratch_folder

CALIBRATED = "calibrated"
"""Entry of a job that asks for this alone: ``task`` and ``parameters`` of the task that was looked at."""


def bare_sizes(job: Job, calibrated: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the numbers of parameters of a job's module, as `parameter_counts` has them, from building it alone.

    It is built on torch's device ``meta``, which keeps shapes and no values, and in memory where that fails. The same
    is done for the task whose parameters were counted in a Trainer: where it does not come to the same number, parts of
    the module are made later than that.

    Parameters
    ----------
    job : Job
        Its spec has the other version of the task.
    calibrated : mapping
        ``task`` of a spec, and the ``parameters`` that its module has in a Trainer.

    Returns
    -------
    dict of str to int or None
        None where only a look at the whole task tells.
    """
    with scratch_folder(job) as scratch:
        for meta in (True, False):
            sizes = []
            for task in (calibrated["task"], job.spec.task):
                place: contextlib.AbstractContextManager[Any] = (
                    torch.device("meta") if meta else contextlib.nullcontext()
                )
                try:
                    with place:
                        built = build_task(
                            task,
                            overrides=job.spec.overrides,
                            peak_lr=job.spec.peak_lr,
                            per_device_batch_size=job.layout.per_device_batch_size,
                            seed=job.spec.seed,
                            root=job.root,
                            scratch=scratch,
                        )
                        built.module.configure_model()
                except Exception:  # a stranger's module may raise anything where it finds no values or no Trainer
                    break
                sizes.append(_counted(built.module))
            if len(sizes) == 2 and sizes[0] is not None and sizes[0]["parameters"] == calibrated["parameters"]:
                return sizes[1]
    return None


def _counted(module: nn.Module) -> dict[str, int] | None:
    if any(is_lazy(one) for one in module.parameters()):
        return None
    return parameter_counts(module)
