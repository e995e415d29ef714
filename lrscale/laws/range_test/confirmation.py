"""What short runs at fixed LR say about the suggestions of a range test."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from lrscale.laws.base import FitStatus, Interval, finite_or_none
from lrscale.laws.lr_slice.slice_fit import LRSliceFit


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRun:
    """One short run at a fixed LR, warm-up aside."""

    lr: float
    """Its LR, positive."""
    seed: int
    """Replicate number, counted from 0. Runs of the same seed share initialisation and example order."""
    loss: float | None
    """Loss at its end, of any sign; None: it diverged."""
    gain: float | None = None
    """Training loss of the untrained module minus that at its end; None where it is not known. At a large LR a run may
    stay where it began, or come back there, without leaving for good."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StableLR:
    """Between which LRs training becomes unstable, by runs at fixed LR, and by the ramps."""

    lo: float
    """Largest LR at which every run trained, with no divergence at any LR below: the number not to exceed."""
    hi: float | None
    """Smallest LR above it at which a run diverged, or gained less than a tenth of the largest gain; None when none
    did."""
    seeds: int
    """Runs at `lo`."""
    warmup_steps: int
    """Warm-up of the runs. A longer one raises the edge."""
    ramp: float | None
    """Edge of the ramps, which have no warm-up and pass an LR in a few steps; geometric mean over seeds."""
    ramp_lo: float | None
    ramp_hi: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RuleAgreement:
    """One published rule against the runs at fixed LR."""

    rule: str
    lr: float
    """What the rule suggested: geometric mean over the ramps."""
    lo: float
    """Smallest suggestion among the ramps."""
    hi: float
    """Largest suggestion among the ramps."""
    tested: bool
    """Whether it lies within the LRs that were run; outside them nothing is known of it."""
    factor: float | None
    """Suggestion over confirmed LR."""
    equivalent: bool | None
    """Whether it lies in the equivalence range of the confirmed LR."""
    regret: float | None
    """Expected loss there minus the lowest, in the unit of the loss; None outside the LRs that trained."""
    regret_lo: float | None
    regret_hi: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OneCyclePair:
    """Lowest and highest LR of a one-cycle schedule, derived and not measured.

    The mean factor of one cycle is half of the peak, and peaks of schedules are near each other in peak times mean
    factor (Schaipp et al. 2025, arXiv:2501.18965), so the peak is twice the confirmed constant LR, but no more than
    the largest LR that trained. It starts at a 25th of the peak, the default of ``torch.optim.lr_scheduler.OneCycleLR``
    (between a tenth and a 25th in Smith and Topin 2017, arXiv:1708.07120).
    """

    base: float
    max: float
    limited_by_stability: bool
    """Whether the largest LR that trained decided the peak."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupAdvice:
    """A length of linear warm-up, derived and not measured.

    ``2 / (1 - beta2)`` steps for Adam and its kin: Ma and Yarats 2019, arXiv:1910.04209.
    """

    steps: int
    examples: int | None
    """The same in examples; None when the batch size is not known."""
    beta2: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What short runs at fixed LR decide about a range test; `confirm` makes it.

    Only status ok confirms an LR. Otherwise `lowest_tested` is the best of what was tried and the suggestions of the
    rules stay untested or undecided, as `agreement` says of each.
    """

    status: FitStatus
    reason: str
    """Why, with the numbers behind it."""
    sentence: str
    """The finding: LR, interval and scope; or what cannot be told."""
    lr: float | None
    """Confirmed LR; only when the status is ok."""
    interval: Interval | None
    """Of the confirmed LR, model error included; one-sided when censored."""
    equivalence: tuple[float, float] | None
    """LRs whose loss is within the tolerance of the lowest, or cannot be told from it by these runs."""
    lowest_tested: float | None
    """LR with the lowest mean loss among those that were run; None when all diverged."""
    stable: StableLR | None
    """None when no LR trained in every run."""
    one_cycle: OneCyclePair | None
    warmup: WarmupAdvice | None
    """None when the optimizer has no beta2."""
    agreement: tuple[RuleAgreement, ...]
    """One entry for each rule that suggested an LR, nearest to the confirmed LR first."""
    complete: bool
    """Whether no further run is wanted."""
    fit: LRSliceFit | None
    """The slice fitted to the runs near the lowest; None when nothing ran. Undetermined where the LR is not that of a
    curve but of runs that bracket it, as `reason` says then."""
    runs: tuple[FixedRun, ...]

    @property
    def ok(self) -> bool:
        """Whether an LR is confirmed."""
        return self.status is FitStatus.OK

    @property
    def nearest_rule(self) -> str | None:
        """The rule that came nearest to the confirmed LR; None without one."""
        return self.agreement[0].rule if self.ok and self.agreement else None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping from which `from_dict` rebuilds an equal object."""
        plain = {
            name.name: getattr(self, name.name)
            for name in dataclasses.fields(self)
            if name.name in ("reason", "sentence", "complete")
        }
        return {
            **plain,
            "status": self.status.value,
            "lr": finite_or_none(self.lr),
            "interval": None if self.interval is None else self.interval.to_dict(),
            "equivalence": None if self.equivalence is None else list(self.equivalence),
            "lowest_tested": finite_or_none(self.lowest_tested),
            "stable": _maybe(self.stable),
            "one_cycle": _maybe(self.one_cycle),
            "warmup": _maybe(self.warmup),
            "agreement": [dataclasses.asdict(row) for row in self.agreement],
            "fit": None if self.fit is None else self.fit.to_dict(),
            "runs": [dataclasses.asdict(run) for run in self.runs],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Confirmation:
        """Rebuild the confirmation that `to_dict` wrote."""
        values = dict(data)
        values["status"] = FitStatus(data["status"])
        values["interval"] = None if data["interval"] is None else Interval.from_dict(data["interval"])
        values["equivalence"] = None if data["equivalence"] is None else tuple(data["equivalence"])
        values["stable"] = None if data["stable"] is None else StableLR(**data["stable"])
        values["one_cycle"] = None if data["one_cycle"] is None else OneCyclePair(**data["one_cycle"])
        values["warmup"] = None if data["warmup"] is None else WarmupAdvice(**data["warmup"])
        values["agreement"] = tuple(RuleAgreement(**row) for row in data["agreement"])
        values["fit"] = None if data["fit"] is None else LRSliceFit.from_dict(data["fit"])
        values["runs"] = tuple(FixedRun(**run) for run in data["runs"])
        return cls(**values)

    def summary(self) -> str:
        """Return the confirmation as text, one quantity a line."""
        lines = [f"range test, confirmed by fixed LRs: {self.status.value}", f"  {self.sentence}"]
        if self.lr is not None and self.interval is not None:
            lines.append(f"  confirmed LR      {self.lr:.3g} ({self.interval.text()})")
        if self.equivalence is not None:
            lines.append(f"  not told apart    {self.equivalence[0]:.3g} to {self.equivalence[1]:.3g}")
        if self.stable is not None:
            ends = f"one did not at {self.stable.hi:.3g}" if self.stable.hi is not None else "every run trained"
            lines.append(f"  trained up to     {self.stable.lo:.3g} ({ends}; warm-up {self.stable.warmup_steps} steps)")
        if self.one_cycle is not None:
            lines.append(f"  one cycle         {self.one_cycle.base:.3g} to {self.one_cycle.max:.3g} (derived)")
        if self.warmup is not None:
            lines.append(f"  warm-up           {self.warmup.steps} steps (derived: 2 / (1 - beta2))")
        for row in self.agreement:
            against = "untested" if not row.tested else "undecided"
            if row.factor is not None:
                against = f"x{row.factor:.2g} of the confirmed LR"
            lines.append(f"  {row.rule:<17} {row.lr:.3g} ({against})")
        return "\n".join(lines)


def _maybe(value: StableLR | OneCyclePair | WarmupAdvice | None) -> dict[str, Any] | None:
    return None if value is None else dataclasses.asdict(value)
