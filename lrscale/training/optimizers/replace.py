"""Puts another optimizer in the place of the module's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lrscale.errors import TaskError
from lrscale.training.methods import replace_method
from lrscale.training.optimizers.build import build_optimizer


def replace_optimizer(module: Any, choice: Mapping[str, Any], notes: list[str]) -> None:
    """Have ``configure_optimizers`` return another optimizer over the same parameter groups, without a scheduler.

    Parameters
    ----------
    module : LightningModule
        Changed on the instance.
    choice : mapping
        `TrialSpec.other_optimizer`; empty leaves the module as it is.
    notes : list of str
        Gets sentences for the record.
    """
    if not choice:
        return
    original = module.configure_optimizers

    def configure_optimizers() -> Any:
        return build_optimizer(choice, _only_optimizer(original()).param_groups, module, notes)

    replace_method(module, "configure_optimizers", configure_optimizers)


def switch_mode(optimizers: Iterable[Any], mode: str) -> None:
    """Put optimizers that have a ``train`` and an ``eval`` mode, as schedule-free ones do, into one of them."""
    for optimizer in (getattr(one, "optimizer", one) for one in optimizers):
        if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
            getattr(optimizer, mode)()


def has_modes(optimizers: Iterable[Any]) -> bool:
    """Whether an optimizer evaluates other weights than it trains."""
    return any(
        callable(getattr(one, "train", None)) and callable(getattr(one, "eval", None))
        for one in (getattr(optimizer, "optimizer", optimizer) for optimizer in optimizers)
    )


def _only_optimizer(made: Any) -> Any:
    found = list(_optimizers(made))
    if len(found) != 1:
        raise TaskError(
            f"the module has {len(found)} optimizers, and another can take the place of one alone",
            hint="leave experiments.schedules.optimizers out, or at [module]",
        )
    return found[0]


def _optimizers(made: Any) -> Iterable[Any]:
    if isinstance(made, Mapping):
        yield from _optimizers(made.get("optimizer"))
    elif isinstance(made, (list, tuple)):
        # Lightning takes (optimizers, schedulers), and several optimizers or mappings in a row.
        pair = len(made) == 2 and isinstance(made[0], (list, tuple))
        for one in made[0] if pair else made:
            yield from _optimizers(one)
    elif made is not None:
        yield made
