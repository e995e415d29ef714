"""Where trials are shown besides the report: the recipe's `logger`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from lrscale.recipe.task import ClassEntry


def _listed(value: Any) -> Any:
    # As LightningCLI's `trainer.logger` has it: one, several, or none.
    if value is None or value is False:
        return ()
    return (value,) if isinstance(value, dict) else value


Loggers = Annotated[tuple[ClassEntry, ...], BeforeValidator(_listed)]
"""One Lightning logger or several, each a class and the arguments of its constructor."""
