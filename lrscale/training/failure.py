"""Whether an exception is the trial's outcome: divergence and exhausted memory are, other errors are a crash."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, final

import torch

from lrscale.errors import TaskError
from lrscale.training.branch import StateMissingError
from lrscale.training.divergence import DivergenceWatch
from lrscale.training.hooks import TrialHooks
from lrscale.training.recorder import Recorder

_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "cublas_status_alloc_failed")
_NUMERIC = re.compile(
    r"\b(nan|nans|inf|infs|infinity|infinite|(not|non)[- ]?finite|invalid values|ill-conditioned|singular|overflow)\b"
    r"|satisfy the constraint",
    re.IGNORECASE,
)
"""Words of errors that modules, torch.linalg and torch.distributions raise on values that are no longer numbers."""
_LOST_PEER = re.compile(
    r"connection (was )?(closed|reset|refused)|socket (closed|timeout)|broken pipe|remote process exited"
    r"|nccl communicator was aborted|gloo.*(timed out|timeout)|timed out waiting",
    re.IGNORECASE,
)
"""Words of the errors that a collective ends with when another rank is gone."""
_REMEDIES = (
    ("find_unused_parameters", "set task.trainer.strategy: ddp_find_unused_parameters_true"),
    ("marked as ready twice", "set task.trainer.strategy: ddp_find_unused_parameters_true"),
    ("manual optimization is not supported with", "take gradient_clip_val out of task.trainer"),
)
"""What an error of torch or Lightning asks for, in the words of a recipe."""
_ONE_EXAMPLE = "expected more than 1 value per channel"


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """How an exception ended a trial on this rank."""

    status: str
    reason: str
    retryable: bool = False


def describe_failure(
    error: BaseException,
    *,
    module: Any = None,
    hooks: TrialHooks | None = None,
    recorder: Recorder | None = None,
    watch: DivergenceWatch | None = None,
    ranks: int = 1,
) -> Failure:
    """Return the status and reason that an exception stands for.

    Parameters
    ----------
    error : BaseException
        What was raised.
    module, hooks, recorder, watch : optional
        The trial's parts, once they exist; with them divergence can be told from a crash.
    ranks : int, optional
        Ranks of the trial. With more than one, an error of a collective means that another rank is gone. Default 1.

    Raises
    ------
    TaskError
        When the error shows a batch size that the module cannot take, which no other trial of that size would change.
    """
    words = _sentence(error)
    if isinstance(error, StateMissingError):
        return Failure("crashed", words, retryable=True)
    if is_out_of_memory(error):
        return Failure("out_of_memory", words)
    if ranks > 1 and isinstance(error, RuntimeError) and _LOST_PEER.search(words):
        return Failure("crashed", f"another rank was lost: {words}", retryable=True)
    if isinstance(error, ValueError) and _ONE_EXAMPLE in words.lower():
        raise TaskError(
            "a forward of 1 example leaves BatchNorm nothing to average over",
            hint="use batch sizes that give every device at least 2 examples in a forward",
        ) from error
    if hooks is not None and recorder is not None and watch is not None:
        numeric = isinstance(error, (FloatingPointError, ZeroDivisionError, OverflowError)) or _NUMERIC.search(words)
        if hooks.in_training_step and recorder.steps > 0 and (numeric or _has_left(error, module, recorder, watch)):
            return Failure("diverged", f"the module raised at step {recorder.steps + 1}: {words}")
    remedy = next((remedy for known, remedy in _REMEDIES if known in str(error).lower()), None)
    return Failure("crashed", f"{words}; {remedy}" if remedy else words)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory of a device or of the host is exhausted."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY_WORDS)


def _sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _has_left(error: BaseException, module: Any, recorder: Recorder, watch: DivergenceWatch) -> bool:
    if any(not math.isfinite(loss) for loss in recorder.own_pending_losses()):
        return True
    if any(not bool(torch.isfinite(parameter).all()) for parameter in module.parameters()):
        return True
    # A wild loss that is still a number explains an error about values, not one about names or code: what is not
    # implemented and too deep a recursion are RuntimeErrors too.
    about_values = isinstance(error, (ValueError, RuntimeError, AssertionError)) and not isinstance(
        error, (NotImplementedError, RecursionError)
    )
    return about_values and math.isfinite(watch.mean) and watch.mean > watch.bound
