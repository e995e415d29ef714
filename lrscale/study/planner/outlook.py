"""What a planner expects of every setting, for maps and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lrscale.study.planner.space import FloatArray


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outlook:
    """What is expected of every setting of a space, in its order; `Planner.outlook` gives it.

    Losses are in their own unit and without the noise of a run.
    """

    mean: FloatArray
    """Expected loss, shape (settings,)."""
    sd: FloatArray
    """Standard deviation of it, shape (settings,)."""
    draws: FloatArray
    """Losses drawn from what the runs leave open, shape (draws, settings)."""
