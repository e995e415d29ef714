"""Whether the LR of the config is as good as the best one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.laws import LRSliceFit
from lrscale.recommend.config_check.rules.base import COSTLY, RULES, AbstractRule, Judgement, share_of_loss
from lrscale.recommend.recommendation import Recommendation
from lrscale.recommend.transfer import MAX_INTERVAL_RATIO
from lrscale.recommend.words import count, rate, with_interval

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration


@final
class EquivalentLR(AbstractRule):
    """Compares the LR with the range of LRs that cost next to nothing at the batch of the config.

    Status Logic
    ------------
    PASS within the range of equivalent LRs or the interval of the best one; FAIL where even the low end of the
    interval of the predicted cost is above 1 % of the loss, or where no slice tells the cost and the LR is a decade off
    both; WARNING in between.
    """

    key: ClassVar[str] = "equivalent_lr"
    question: ClassVar[str] = "Is the peak LR in the range that costs next to nothing at this batch?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        found = calibration.lr
        if found is None:
            return self.says(
                "WARNING",
                None,
                "The config does not say its learning rate, and the trials do not know the module's own.",
                "name its key: --key lr=model.init_args.optimizer_lr",
            )
        here = calibration.here
        if not isinstance(here, Recommendation):
            return None
        lr, key = found
        value = f"{key} {rate(lr)}"
        ends = [end for end in (*here.equivalent_lr, here.lr.lo, here.lr.hi) if end is not None]
        lowest, highest = min(ends), max(ends)
        size = f"batch {count(here.global_batch_size)}"
        best = f"the best peak LR is {with_interval(here.lr)}"
        same = f"{rate(here.equivalent_lr[0])} to {rate(here.equivalent_lr[1])} cost next to nothing"
        if lowest <= lr <= highest:
            return self.says("PASS", value, f"At {size} {best}; {same}.")
        cost, low = _cost(calibration.slice_here(), lr)
        off = max(lowest / lr, lr / highest)
        failed = low is not None and low > COSTLY
        failed = failed or (low is None and off >= MAX_INTERVAL_RATIO)
        sentence = f"Peak LR {rate(lr)} is outside of what is as good at {size}: {best}, {same}{cost}."
        remedy = f"set the peak LR to {rate(here.peak_lr)}"
        return self.says("FAIL" if failed else "WARNING", value, sentence, remedy)


def _cost(fit: LRSliceFit | None, lr: float) -> tuple[str, float | None]:
    """Return what an LR costs in words, and the low end of the cost relative to the loss."""
    if fit is None or not fit.min_loss:
        return "", None
    middle, lo, hi = (float(part[0]) / abs(fit.min_loss) for part in fit.regret([lr]))
    inside = min(fit.lr) <= lr <= max(fit.lr)
    beyond = "" if inside else ", by the curve beyond the LRs that were tried"
    ends = f"{100 * fit.confidence:g} % {share_of_loss(lo)} to {share_of_loss(hi)}"
    return f"; it costs {share_of_loss(middle)} of the loss ({ends}{beyond})", lo


RULES.register(EquivalentLR.key)(EquivalentLR())
