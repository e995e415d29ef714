"""The largest batch that fits makes the most of memory and device."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.study.rules.base import RULES, AbstractRule, Ruling, power_text
from lrscale.study.rules.evidence import Evidence
from lrscale.study.rules.training_time import NEEDS, as_times, gain, scope_of, timed
from lrscale.study.words import memory_text

LEAST_GAIN = 1.05
"""Times faster that count as faster still."""


@final
class Utilisation(AbstractRule):
    """Examples a second at the largest per-device batch that was timed, over those at the next smaller one.

    Memory is always used most by the largest batch that fits. Whether the device is too, depends on where its speed
    saturates: beyond that more memory buys nothing.
    """

    key: ClassVar[str] = "utilisation"
    claim: ClassVar[str] = "The largest batch that fits makes the most of memory and device"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        rows = timed(evidence)
        if len(rows) < 2:
            return Ruling.untold(
                f"{len(rows)} per-device batch sizes were timed on all devices, and two are needed.", NEEDS
            )
        large, next_one = rows[-1], rows[-2]
        claim = gain(large, next_one, LEAST_GAIN)
        if claim is None:
            return Ruling.untold("The step times have no error.", NEEDS)
        times = power_text(as_times(claim))
        return Ruling(
            claim=claim,
            sentence=f"At {large['per_device_batch_size']:,} examples per device, the largest that was timed, training "
            f"is {times} times as fast as at {next_one['per_device_batch_size']:,}"
            f"{_memory(evidence)}.",
            effect=f"{times} times the speed of {next_one['per_device_batch_size']:,}",
            margin=f"more than {LEAST_GAIN:g} times as fast as the next smaller batch",
            scope=scope_of(rows),
            needs=NEEDS if claim.verdict == "cannot tell" else "",
            unit="ln of the speeds' ratio",
        )


def _memory(evidence: Evidence) -> str:
    found = evidence.finding("memory")
    if found is None:
        return ""
    row = next((one for one in found.data.get("rows", ()) if one["per_device_batch_size"] == found.data["size"]), None)
    if row is None or row["peak"] is None or not row["capacity"]:
        return ""
    told = f"; {found.data['size']:,}, the largest that fits, uses {memory_text(row['peak'])} of "
    told += memory_text(row["capacity"])
    return f"{told} and is bound by the data or by layout.max_per_device_batch_size" if found.data["at_cap"] else told


RULES.register(Utilisation.key)(Utilisation())
