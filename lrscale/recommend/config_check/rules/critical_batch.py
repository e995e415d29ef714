"""Whether a larger batch still saves steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.recommend.batch import excess
from lrscale.recommend.config_check.rules.base import COSTLY, RULES, AbstractRule, Judgement, share_of_loss
from lrscale.recommend.measured import find
from lrscale.recommend.recommendation import Recommendation
from lrscale.recommend.words import count
from lrscale.study.finding import Quantity

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration


@final
class CriticalBatch(AbstractRule):
    """Compares the batch with the critical one, and with the loss of the other batches at equal examples.

    The critical batch size is the knee of the steps to a loss against the batch (McCandlish et al. 2018,
    arXiv:1812.06162): far beyond it steps hardly fall and examples grow in proportion. Without it the loss at equal
    examples decides, which the trials of any sweep measure. The noise scale of the gradient estimates it without a
    sweep, and is known to differ from it by a factor, so that it never fails a config.

    Status Logic
    ------------
    PASS up to the batch that the study recommends for its own target and objective. FAIL above the upper end of the
    interval of the critical batch, or where the loss is more than 1 % above that of the best batch and their intervals
    do not overlap; WARNING above the point estimate, above the noise scale's upper end, or with a loss above the best
    by more than the tolerance.
    """

    key: ClassVar[str] = "critical_batch"
    question: ClassVar[str] = "Does so large a batch still save steps?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        size = calibration.formed.global_batch_size
        if size is None:
            return None
        value = f"global batch {count(size)}"
        usual = calibration.usual
        if isinstance(usual, Recommendation) and size <= usual.global_batch_size:
            sentence = f"The study recommends batch {count(usual.global_batch_size)}, and this one is no larger."
            return self.says("PASS", value, sentence)
        scaling = find(calibration.findings, "scaling")
        knee = None if scaling is None else scaling.numbers.get("critical_batch")
        by_loss = self._by_loss(calibration, value)
        if by_loss is not None and by_loss.status == "FAIL":
            return by_loss
        if knee is not None and (knee.hi is not None or knee.value is not None):
            return self._against(size, knee, value, "critical batch size", fails=True)
        if by_loss is not None and by_loss.status == "WARNING":
            return by_loss
        noise = find(calibration.findings, "noise_scale")
        scale = None if noise is None or noise.status != "ok" else noise.numbers.get("noise_scale")
        if scale is not None and scale.value is not None and by_loss is None:
            return self._against(size, scale, value, "noise scale of the gradient", fails=False)
        return by_loss

    def _against(self, size: int, known: Quantity, value: str, name: str, *, fails: bool) -> Judgement:
        middle = "" if known.value is None else f" {known.value:,.0f}"
        ends = [f"{end:,.0f}" if end is not None else "unknown" for end in (known.lo, known.hi)]
        told = f"the {name}{middle} ({100 * known.confidence:g} % {ends[0]} to {ends[1]})"
        limit = known.hi if known.hi is not None else known.value
        remedy = f"use a batch of at most {limit:,.0f}" if limit is not None else None
        if known.hi is not None and size > known.hi:
            sentence = f"Batch {count(size)} is beyond {told}: it takes more examples and hardly fewer steps."
            return self.says("FAIL" if fails else "WARNING", value, sentence, remedy)
        if known.value is not None and size > known.value:
            return self.says("WARNING", value, f"Batch {count(size)} is above {told}.", remedy)
        return self.says("PASS", value, f"Batch {count(size)} is not above {told}.")

    def _by_loss(self, calibration: Calibration, value: str) -> Judgement | None:
        mine = calibration.cell
        if mine is None or mine.loss.value is None or len(calibration.cells) < 2:
            return None
        known = [cell for cell in calibration.cells if cell.loss.value is not None]
        best = min(known, key=lambda cell: float(cell.loss.value or 0.0))
        target = calibration.recipe.target
        tolerance = 1e-3 if target is None else target.tolerance
        over = excess(mine, best)
        size = count(mine.batch_size)
        if mine is best or over <= tolerance or mine.batch_size < best.batch_size:
            return self.says("PASS", value, f"At equal examples batch {size} costs {share_of_loss(over)} of the loss.")
        apart = mine.loss.lo is not None and best.loss.hi is not None and mine.loss.lo > best.loss.hi
        sentence = (
            f"At equal examples batch {size} costs {share_of_loss(over)} of the loss against batch "
            f"{count(best.batch_size)}, each at its own best LR; their intervals "
            f"{'do not overlap' if apart else 'overlap'}."
        )
        failed = apart and over > COSTLY
        good = [cell.batch_size for cell in known if excess(cell, best) <= tolerance]
        return self.says("FAIL" if failed else "WARNING", value, sentence, f"use a batch of at most {count(max(good))}")


RULES.register(CriticalBatch.key)(CriticalBatch())
