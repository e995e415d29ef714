"""The batch size sets the training time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws.claim import Claim
from lrscale.laws.difference import satterthwaite
from lrscale.study.rules.base import RULES, AbstractRule, Ruling, power_text
from lrscale.study.rules.evidence import Evidence

LEAST_GAIN = 1.1
"""Times faster that count as faster."""
NEEDS = "experiments.throughput: {repeats: 3}, with per_device_batch_sizes of a factor of 16 or more"


@final
class TrainingTime(AbstractRule):
    """Examples a second at the largest per-device batch that was timed, over those at the smallest, on all devices."""

    key: ClassVar[str] = "training_time"
    claim: ClassVar[str] = "A larger batch trains the same examples in less time"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        rows = timed(evidence)
        if len(rows) < 2:
            return Ruling.untold(
                f"{len(rows)} per-device batch sizes were timed on all devices, and two are needed.", NEEDS
            )
        small, large = rows[0], rows[-1]
        claim = gain(large, small, LEAST_GAIN)
        if claim is None:
            return Ruling.untold("The step times have no error.", NEEDS)
        times = power_text(as_times(claim))
        return Ruling(
            claim=claim,
            sentence=f"At {large['per_device_batch_size']:,} examples per device training is {times} times as fast as "
            f"at {small['per_device_batch_size']:,}.",
            effect=f"{times} times the speed",
            margin=f"more than {LEAST_GAIN:g} times as fast",
            scope=scope_of(rows),
            breaks=_knee(evidence, large),
            needs=NEEDS if claim.verdict == "cannot tell" else "",
            unit="ln of the speeds' ratio",
        )


def timed(evidence: Evidence) -> list[Mapping[str, Any]]:
    """Return the timed layouts of the largest number of ranks without accumulation, by ascending per-device batch."""
    found = evidence.finding("throughput")
    rows = [] if found is None else [row for row in found.data.get("rows", ()) if row["accumulate"] == 1]
    most = max((_ranks(row) for row in rows), default=0)
    return sorted((row for row in rows if _ranks(row) == most), key=lambda row: row["per_device_batch_size"])


def gain(a: Mapping[str, Any], b: Mapping[str, Any], least: float) -> Claim | None:
    """Return the claim that layout a is more than `least` times as fast as b, in logarithms; None without errors."""
    if a["step_se"] is None or b["step_se"] is None or not a["step_degrees"] or not b["step_degrees"]:
        return None
    parts = [(row["step_se"] / row["step_mean"]) ** 2 for row in (a, b)]
    value = math.log(a["examples_per_second"] / b["examples_per_second"])
    df = max(satterthwaite(parts, [row["step_degrees"] for row in (a, b)]), 1.0)
    return Claim.of_t(value, math.sqrt(sum(parts)), df, threshold=math.log(least))


def as_times(claim: Claim) -> Claim:
    """Return an effect in logarithms as a ratio."""
    return Claim(
        value=math.exp(claim.value),
        lo=None if claim.lo is None else math.exp(claim.lo),
        hi=None if claim.hi is None else math.exp(claim.hi),
        threshold=math.exp(claim.threshold),
        p_below=claim.p_below,
        p_above=claim.p_above,
        confidence=claim.confidence,
    )


def scope_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what timed layouts stand on, in words."""
    ranks = _ranks(rows[0])
    return f"{ranks} device{'s' if ranks > 1 else ''}, {sum(row['repeats'] for row in rows)} short trials"


def _ranks(row: Mapping[str, Any]) -> int:
    return int(row["devices"]) * int(row["num_nodes"])


def _knee(evidence: Evidence, row: Mapping[str, Any]) -> str:
    found = evidence.finding("throughput")
    knees = () if found is None else found.data.get("knees", ())
    knee = next((one for one in knees if one["ranks"] == _ranks(row)), None)
    if knee is None:
        return ""
    share = f"{100 * knee['share']:.0f} % of the largest speed"
    if knee["at_edge"]:
        return f"{share} is reached at {knee['size']:,} per device only, the largest that was timed"
    ends = "" if knee["lo"] is None else f" ({100 * knee['confidence']:.0f} % {knee['lo']:,} to {knee['hi']:,})"
    return f"{share} is reached at {knee['size']:,} per device{ends}"


RULES.register(TrainingTime.key)(TrainingTime())
