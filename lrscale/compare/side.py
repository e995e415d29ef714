"""One of the two studies of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from lrscale.laws import LRSliceFit, OptimalLRFit
from lrscale.recipe import Recipe
from lrscale.recommend import Recommendation, Refusal
from lrscale.store import StudyView, Trial
from lrscale.study.finding import Finding


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A study with what it found."""

    label: str
    """What it is called beside the other one."""
    recipe: Recipe
    view: StudyView
    findings: tuple[Finding, ...]
    answer: Recommendation | Refusal

    def finding(self, key: str) -> Finding | None:
        """Return the finding of an experiment, or None."""
        return next((one for one in self.findings if one.key == key), None)

    @property
    def scaling(self) -> Mapping[str, Any]:
        """What the finding on scaling keeps for its figures; empty without one."""
        found = self.finding("scaling")
        return {} if found is None else found.data

    def slices(self) -> dict[int, LRSliceFit]:
        """Return the fitted slice of each batch size, located or not."""
        return {
            int(cell["batch_size"]): LRSliceFit.from_dict(cell["slice"])
            for cell in self.scaling.get("cells", ())
            if cell.get("slice")
        }

    def law(self) -> OptimalLRFit | None:
        """Return the law of the best LR against the batch size, or None."""
        plain = self.scaling.get("law")
        return None if not plain or plain.get("law") is None else OptimalLRFit.from_dict(plain)

    def trial(self) -> Trial | None:
        """Return a completed trial of the task as it stands, whose facts describe the module and its data."""
        done = (one for one in self.view if one.record.status == "completed" and not one.spec.overrides)
        return next(iter(sorted(done, key=lambda one: one.spec.schedule.name == "ramp")), None)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What that trial found out."""
        one = self.trial()
        return {} if one is None else one.record.facts

    @property
    def monitor(self) -> str | None:
        """The logged value that the loss is."""
        one = self.trial()
        return self.scaling.get("monitor") or (None if one is None else one.record.monitor)
