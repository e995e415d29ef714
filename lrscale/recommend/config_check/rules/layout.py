"""Whether the devices of the config form its batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.errors import LayoutError
from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement
from lrscale.recommend.words import count
from lrscale.units import split_global_batch

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration


@final
class LayoutDivides(AbstractRule):
    """Multiplies per-device batch, accumulation, devices and nodes.

    Status Logic
    ------------
    FAIL where a stated global batch does not divide over the devices, or is not the product of its parts, or where an
    epoch holds less than one batch; WARNING where the last step of every epoch accumulates fewer forwards than the
    others, which is a step of a smaller batch.
    """

    key: ClassVar[str] = "layout"
    question: ClassVar[str] = "Do the devices form the global batch?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        formed = calibration.formed
        total, per_device, accumulate = formed.global_batch_size, formed.per_device_batch_size, formed.accumulate
        if total is None:
            return None
        where = f"{formed.devices} devices" + (f" x {formed.num_nodes} nodes" if formed.num_nodes > 1 else "")
        parts = "" if per_device is None else f"{per_device} per device x {accumulate or 1} accumulated x {where}"
        value = f"global batch {count(total)}" + (f" = {parts}" if parts else f" on {where}")
        if formed.stated and per_device is not None and accumulate is not None:
            product = per_device * accumulate * formed.ranks
            if product != total:
                remedy = (
                    f"set accumulate_grad_batches: {total // (per_device * formed.ranks)}, or the batch to {product}"
                )
                if total % (per_device * formed.ranks):
                    remedy = f"set the batch to {product}, or change its parts"
                return self.says(
                    "FAIL", value, f"{parts} form a batch of {count(product)}, not {count(total)}.", remedy
                )
        elif formed.stated:
            try:
                split_global_batch(
                    total, devices=formed.devices, num_nodes=formed.num_nodes, per_device_batch_size=per_device
                )
            except LayoutError as error:
                return self.says("FAIL", value, f"{error.message[:1].upper()}{error.message[1:]}.", error.hint)
        return self._in_an_epoch(calibration, value)

    def _in_an_epoch(self, calibration: Calibration, value: str) -> Judgement:
        formed, known = calibration.formed, calibration.facts.get("training_examples")
        total, per_device = formed.global_batch_size or 0, formed.per_device_batch_size
        if isinstance(known, int) and 0 < known < total:
            return self.says(
                "FAIL",
                value,
                f"An epoch has {count(known)} training examples, fewer than one batch of {count(total)}.",
                f"use a batch of at most {count(known // formed.ranks * formed.ranks)}",
            )
        accumulate = formed.accumulate or 1
        if isinstance(known, int) and known > 0 and per_device is not None and accumulate > 1:
            forwards = known // (per_device * formed.ranks)
            if forwards % accumulate:
                return self.says(
                    "WARNING",
                    value,
                    f"An epoch has {count(forwards)} forwards a device, no multiple of {accumulate}: its last step "
                    f"accumulates {forwards % accumulate}, at an LR for {accumulate}.",
                    "train by steps over several epochs only if that does not matter, or choose an accumulation that "
                    "divides",
                )
        return self.says("PASS", value, "The devices form the batch.")


RULES.register(LayoutDivides.key)(LayoutDivides())
