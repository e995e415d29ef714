"""What a planner expects of every setting, for maps and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lrscale.study.planner.planner import DRAWS, Planner
from lrscale.study.planner.space import FloatArray


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outlook:
    """What is expected of every setting of a space, in its order.

    Examples
    --------
    >>> from lrscale.study.planner import Space
    >>> planner = Planner(Space.lattice((1e-3, 4e-3), [16, 64]))
    >>> for lr, loss in ((1e-3, 2.0), (4e-3, 3.0)):
    ...     planner.tell(lr, 16, loss)
    >>> outlook = Outlook.of(planner)
    >>> outlook.mean.shape, outlook.draws.shape, bool(outlook.mean[0] < outlook.mean[4])
    ((10,), (400, 10), True)
    """

    mean: FloatArray
    """Expected loss, shape (settings,)."""
    sd: FloatArray
    """Standard deviation of it, without the noise of a run."""
    draws: FloatArray
    """Losses drawn from what the runs leave open, shape (draws, settings); those of `Planner.choice`."""

    @classmethod
    def of(cls, planner: Planner) -> Outlook | None:
        """Return what a planner expects, or None before two runs have ended with different losses."""
        posterior = planner._posterior()
        if posterior is None:
            return None
        lowest = float(np.nanmin(planner._losses))
        draws = posterior.draw(DRAWS, np.random.default_rng([planner._rng_seed, planner.told]))
        return cls(mean=lowest + posterior.mean, sd=posterior.sd, draws=lowest + draws)
