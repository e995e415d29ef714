"""How far the decay of a trial's LR has come at each validation."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from lrscale.schedules import build_schedule, is_pure
from lrscale.schedules.warmup import WarmupShape
from lrscale.store import TrialSpec

POINTS = 200
FLAT = 1e-6
"""Share of the peak by which an LR must fall to decay."""


def decayed_shares(spec: TrialSpec, validations: int) -> dict[int, float]:
    """Return the share of the decay that is over at each of some validations, by their numbers.

    That of the LR's fall from its highest to its last value. Where it does not fall, or its course is known to nobody
    beforehand, the share of the horizon.

    Examples
    --------
    >>> from lrscale.store import ScheduleSpec
    >>> spec = TrialSpec(task={}, schedule=ScheduleSpec(name="wsd"), peak_lr=0.1, global_batch_size=8, horizon=1000,
    ...                  seed=0)
    >>> {place: round(share, 1) for place, share in decayed_shares(spec, 10).items() if place in (5, 8, 9, 10)}
    {5: 0.0, 8: 0.0, 9: 0.5, 10: 1.0}
    """
    plain = {place: place / validations for place in range(1, validations + 1)}
    if not is_pure(spec.schedule.name):
        return plain
    own = spec.schedule
    settings = json.dumps(dict(own.settings), sort_keys=True)
    factors = _factors(own.name, settings, own.warmup_steps, own.warmup_shape, spec.horizon)
    top, last = max(factors), factors[-1]
    if top - last < FLAT * top:
        return plain
    rises_until = factors.index(top)
    found = {}
    for place in plain:
        at = round(place / validations * (len(factors) - 1))
        found[place] = max((top - factors[at]) / (top - last), 0.0) if at >= rises_until else 0.0
    return found


@lru_cache(maxsize=256)
def _factors(name: str, settings: str, warmup_steps: int, shape: WarmupShape, horizon: int) -> tuple[float, ...]:
    own: dict[str, Any] = json.loads(settings)
    schedule = build_schedule(name, own, warmup_steps=warmup_steps, warmup_shape=shape)
    count = max(min(horizon, POINTS), 2)
    return tuple(schedule.factor(round(step * (horizon - 1) / (count - 1)), horizon) for step in range(count))
