"""Keeps the state in which a trial ends, for trials that go on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from typing_extensions import override

from lrscale.store.files import content_hash
from lrscale.training.instruments.base import INSTRUMENTS, AbstractInstrument

NAME = "state.ckpt"
"""File in the trial's folder."""


@final
@INSTRUMENTS.register("final_state")
class FinalStateInstrument(AbstractInstrument):
    """Saves weights and optimizer state when training ends, as a checkpoint of Lightning in the folder of the trial."""

    def __init__(self) -> None:
        self._sha256: str | None = None

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Save the state; every rank takes part, and waits until it is written."""
        # The Trainer's own folder is this rank's, in that of the trial.
        path = Path(trainer.default_root_dir).parent / NAME
        trainer.save_checkpoint(path)
        self._sha256 = content_hash(path)

    @override
    def measurement(self) -> dict[str, Any]:
        return {"file": NAME, "sha256": self._sha256}
