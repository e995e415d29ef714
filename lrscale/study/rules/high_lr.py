"""A high learning rate diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from scipy.special import bdtr
from typing_extensions import override

from lrscale.laws.claim import Claim
from lrscale.laws.range_test.range_curve import analyse_range_curves
from lrscale.study.rules.base import RULES, AbstractRule, Ruling
from lrscale.study.rules.evidence import Evidence
from lrscale.study.words import interval_text, number

NEEDS = "experiments.range_test.seeds of 3 or more, and an lr_max well above the best learning rate"


@final
class HighLR(AbstractRule):
    """Where the ramps of the range test become unstable, against the LR that they go up to.

    The edge of each seed is read off its ramp; the claim is that the mean of its logarithm lies below the end of the
    ramp. Where no ramp becomes unstable, the chance of that is a half for each seed if half of all seeds would.
    """

    key: ClassVar[str] = "high_lr"
    claim: ClassVar[str] = "A high learning rate diverges"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        found = evidence.context.findings.get("range_test")
        settings = evidence.context.recipe.experiments.range_test
        if found is None or settings is None or not found.data.get("family"):
            return Ruling.untold("No range test was made.", "experiments.range_test: {}")
        member = found.data["family"][0]
        edges, ratio = _edges(member)
        top = settings.lr_max
        seen = [edge for edge in edges if edge is not None]
        size = member["batch_size"]
        scope = f"batch {size:,}, {len(edges)} ramps of {settings.steps} steps without warm-up"
        if not edges:
            return Ruling.untold("No ramp left a curve.", NEEDS)
        if len(seen) == len(edges):
            claim = Claim.of_pairs([math.log(top / edge) for edge in seen], se_floor=math.log(ratio) / math.sqrt(12))
            if claim is None:
                return Ruling.untold(f"The only ramp becomes unstable at {number(seen[0])}.", NEEDS, scope=scope)
            lo, hi = (None if end is None else top / math.exp(end) for end in (claim.hi, claim.lo))
            edge = f"{number(top / math.exp(claim.value))} ({interval_text(lo, hi, claim.confidence)})"
            told = f"Ramps become unstable at {edge}, of {number(top)} that they go up to"
            return Ruling(
                claim=claim,
                sentence=f"{told}{_fixed(member)}.",
                effect=f"edge at {edge}",
                margin="an edge below the end of the ramps",
                scope=scope,
                breaks=_others(found.data["family"][1:]),
                needs=NEEDS if claim.verdict == "cannot tell" else "",
                unit="ln of the end of the ramp over the edge",
            )
        if seen:
            return Ruling.untold(
                f"{len(seen)} of {len(edges)} ramps become unstable up to {number(top)}.", NEEDS, scope=scope
            )
        return Ruling(
            claim=_never(len(edges)),
            sentence=f"No ramp becomes unstable up to {number(top)}{_fixed(member)}.",
            effect=f"no edge up to {number(top)}",
            margin="an edge below the end of the ramps in half of all seeds",
            scope=scope,
            needs="" if _never(len(edges)).verdict != "cannot tell" else NEEDS,
            unit="share of seeds",
        )


def _edges(member: Mapping[str, Any]) -> tuple[list[float | None], float]:
    """Return the edge of each ramp, and the ratio of neighbouring LRs."""
    ramps = [one for one in member["curves"] if len(one["lr"]) >= 2]
    if not ramps:
        return [], 1.0
    curves = [(one["lr"], [math.nan if loss is None else loss for loss in one["loss"]]) for one in ramps]
    found = analyse_range_curves(curves, diverged_at=[one["diverged_at"] for one in ramps])
    longest = max((one["lr"] for one in ramps), key=len)
    return [reading.hi for reading in found.curves], (longest[-1] / longest[0]) ** (1 / (len(longest) - 1))


def _never(count: int) -> Claim:
    """Return the claim that half of all seeds diverge, when none of `count` did (exact binomial)."""
    upper = 1 - 0.025 ** (1 / count)
    return Claim(value=0.0, lo=0.0, hi=upper, threshold=0.5, p_below=1.0, p_above=float(bdtr(0, count, 0.5)))


def _fixed(member: Mapping[str, Any]) -> str:
    sure = member.get("confirmation")
    stable = None if sure is None else sure.get("stable")
    if stable is None:
        return ""
    told = f"; with {stable['warmup_steps']} steps of warm-up every run trained up to {number(stable['lo'])}"
    return told if stable["hi"] is None else f"{told}, and not at {number(stable['hi'])}"


def _others(family: Sequence[Mapping[str, Any]]) -> str:
    known = [one for one in family if one.get("unstable_at")]
    return "; ".join(f"at batch {one['batch_size']:,} from {number(one['unstable_at'])}" for one in known)


RULES.register(HighLR.key)(HighLR())
