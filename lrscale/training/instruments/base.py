"""What every instrument is: measurements that ride along with a trial and leave its training as it would have been."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrscale.errors import LrscaleError
from lrscale.registry import Registry

if TYPE_CHECKING:
    from lrscale.training.flavour import Flavour
    from lrscale.training.instruments.gradient_norms import GradientNorms


class AbstractInstrument(ABC):
    """A measurement on a trial.

    A member defines the hooks of a Lightning callback that it needs, by Lightning's names. Its parameters are
    keyword-only and JSON values, since they come from a trial's spec. It runs on every rank, enters a collective on all
    of them or on none, and leaves parameters, random state, data order and logs as they would be without it.
    """

    norms: GradientNorms | None = None
    """What reads the gradient before each step, where a member needs its norms; those of one trial share theirs."""

    def take_losses(self, losses: Sequence[float | None]) -> None:
        """Be told the training loss of every step, the mean over all ranks, None where a step brought none.

        Called once, after the fit and before `measurement`. Default: they are not needed.
        """
        del losses

    @abstractmethod
    def measurement(self) -> dict[str, Any]:
        """Return what was measured, as JSON values that are equal on all ranks; called once, after the fit."""

    def remarks(self) -> list[str]:
        """Return what a reader of the trial's result must know, as sentences. Default: nothing."""
        return []

    def rest(self, *hooks: str) -> None:
        """Let Lightning not call these hooks, which saves 2 us each on every batch, until `wake`."""
        for hook in hooks:
            self.__dict__[hook] = None

    def wake(self, *hooks: str) -> None:
        """Let Lightning call these hooks again."""
        for hook in hooks:
            self.__dict__.pop(hook, None)


INSTRUMENTS: Registry[type[AbstractInstrument]] = Registry("instrument")


_EVERY_BATCH = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
"""Hooks of a callback that Lightning calls with every batch or step."""


def make_instruments(asked: Mapping[str, Mapping[str, Any]], flavour: Flavour) -> dict[str, Any]:
    """Return the instruments of a trial by name, each as a callback of the module's own flavour.

    Parameters
    ----------
    asked : mapping of str to mapping
        Name in `INSTRUMENTS` -> its settings.
    flavour : Flavour
        Package that the base class of callbacks comes from.

    Raises
    ------
    LrscaleError
        For an unknown name, or settings that the instrument does not take.
    """
    made = {}
    for name, settings in asked.items():
        own = INSTRUMENTS[name]
        # Lightning enters its profiler for every hook that can be called, those of the base class that do nothing too:
        # 2 us each on a step of a small model.
        idle = {hook: None for hook in _EVERY_BATCH if not hasattr(own, hook)}
        kind = type(own.__name__, (own, flavour.get("Callback")), {"state_key": f"lrscale {name}", **idle})
        try:
            made[name] = kind(**settings)
        except TypeError as error:
            raise LrscaleError(f"instrument {name} cannot be made: {error}", hint="see its parameters") from None
    readers = [instrument for instrument in made.values() if instrument.norms is not None]
    for instrument in readers[1:]:
        instrument.norms = readers[0].norms
    return made
