"""What the stopper of a search ended, what that saved, and whether early losses told the later ones."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from lrscale.study.search.course import Course

FEWEST_RANKED = 4
"""Completed trials from which on their order says something."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The work of a stopper in a search."""

    name: str
    stopped: int
    trials: int
    """All that ended, the stopped ones included."""
    examples: int
    """Trained by all of them."""
    saved: int
    """Examples that the stopped ones did not train, less what was trained twice where one ran again to its horizon."""
    places: Mapping[float, int]
    """Share of the horizon -> trials that were stopped there."""
    agreement: float | None
    """Share of the pairs of completed trials whose order at the first of those validations is that at the horizon, in
    [0, 1]: a half is chance, 1 that stopping there costs nothing. None for fewer than `FEWEST_RANKED` trials."""

    @classmethod
    def of(cls, course: Course) -> Stopping | None:
        """Return the work of the stopper, or None where it has ended no trial."""
        ends = [end for trial in course.stopped if (end := trial.record.ended_by_stopper) is not None]
        if not ends:
            return None
        places = Counter(round(float(end["share"]), 6) for end in ends)
        return cls(
            name=str(ends[0]["name"]),
            stopped=len(ends),
            trials=len(course.trials),
            examples=sum(trial.record.examples for trial in course.trials),
            saved=_saved(course),
            places=dict(sorted(places.items())),
            agreement=_agreement(course, min(places)),
        )

    @property
    def share_saved(self) -> float:
        """Examples saved as a share of what all trials would have trained, in [0, 1)."""
        return self.saved / (self.examples + self.saved)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "stopped": self.stopped,
            "trials": self.trials,
            "examples": self.examples,
            "saved": self.saved,
            "share_saved": self.share_saved,
            "agreement": self.agreement,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each validation at which trials were stopped."""
        return [{"rule": self.name, "share": share, "stopped": count} for share, count in self.places.items()]


def _saved(course: Course) -> int:
    there = {trial.trial_id for trial in course.trials}
    saved = 0
    for trial in course.stopped:
        again = dataclasses.replace(trial.spec, stopper={}).trial_id in there
        saved += (0 if again else trial.spec.examples) - trial.record.examples
    return saved


def _agreement(course: Course, share: float) -> float | None:
    """Return the share of pairs of completed trials that stand at a validation as they end; ties count half."""
    count = course.setup.validations
    place = max(1, round(share * count))
    pairs = []
    for trial in course.trials:
        early, late = course.losses.get(trial.trial_id, {}).get(place), trial.record.final_loss
        if early is not None and late is not None:
            pairs.append((early, late))
    if len(pairs) < FEWEST_RANKED:
        return None
    agreeing, compared = 0.0, 0
    for index, (early, late) in enumerate(pairs):
        for other_early, other_late in pairs[:index]:
            compared += 1
            product = (early - other_early) * (late - other_late)
            agreeing += 1.0 if product > 0 else 0.5 if product == 0 else 0.0
    return agreeing / compared
