"""Which logged value the trials are compared by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lrscale.errors import TaskError, nearest

KNOWN_NAMES = (
    "val_loss",
    "val/loss",
    "valid_loss",
    "valid/loss",
    "validation_loss",
    "validation/loss",
    "ptl/val_loss",
    "eval_loss",
    "eval/loss",
)
"""Names in use among public Lightning projects, most common first."""


def find_monitor(logged: Iterable[str], *, asked: str | None, has_returned: bool) -> str | None:
    """Return the name of the logged validation loss.

    Parameters
    ----------
    logged : iterable of str
        Names that validation logged.
    asked : str or None
        The recipe's ``task.monitor``.
    has_returned : bool
        Whether ``validation_step`` returned losses that could serve instead.

    Returns
    -------
    str or None
        None when nothing was logged and the returned losses serve.

    Raises
    ------
    TaskError
        When the asked name was not logged, or when none of the names is a validation loss beyond doubt.

    Examples
    --------
    >>> find_monitor(["val_acc", "val_loss"], asked=None, has_returned=False)
    'val_loss'
    """
    names = sorted(set(logged))
    # Several validation loaders put their number behind the name; the first is the one to go by.
    plain = {name.removesuffix("/dataloader_idx_0"): name for name in names}
    if asked is not None:
        if asked in names or asked in plain:
            return plain.get(asked, asked)
        raise TaskError(
            f"task.monitor {asked} was not logged in validation",
            hint=_remedy(asked, names),
        )
    for known in KNOWN_NAMES:
        if known in plain:
            return plain[known]
    losses = [name for name in names if "loss" in name.lower()]
    if len(losses) == 1:
        return losses[0]
    if has_returned:
        return None
    if not names:
        raise TaskError("validation_step neither logs nor returns a loss", hint="log one, and name it in task.monitor")
    raise TaskError(
        f"which of the logged values is the validation loss cannot be told: {', '.join(names)}",
        hint="name it in task.monitor",
    )


def _remedy(asked: str, names: list[str]) -> str:
    if not names:
        return "log it in validation_step"
    logged = f"logged there: {', '.join(names)}"
    close = nearest(asked, names)
    return f"did you mean {close}? {logged}" if close else logged


def loss_of(output: Any) -> Any:
    """Return the loss in what a step returned: a tensor, a mapping with ``loss``, or None."""
    if isinstance(output, Mapping):
        output = output.get("loss")
    return output if hasattr(output, "detach") else None
