"""Whether training at the LR of the config ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement
from lrscale.recommend.measured import Cell
from lrscale.recommend.words import count, rate

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration

MARGIN = 2.0
"""Ratio to the LR that diverges below which the margin is called small, as in the checks of a recommendation."""


@final
class StableLR(AbstractRule):
    """Compares the LR with the one from which on trials diverged.

    At a batch that was not measured the edges of the measured neighbours stand in. Below the smallest one its edge is
    an upper bound, since more noise lowers the edge; above the largest one it only warns.

    Status Logic
    ------------
    FAIL at or above the edge; WARNING within a factor of 2 below it, or above every LR that trained.
    """

    key: ClassVar[str] = "stable_lr"
    question: ClassVar[str] = "Is the peak LR below the one from which on trials diverged?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        found = calibration.lr
        if found is None:
            return None
        lr, key = found
        value = f"{key} {rate(lr)}"
        edges, sure, where = _edges(calibration)
        low = None if calibration.setting is None else calibration.setting.equivalent_lr
        remedy = None if low is None else f"set the peak LR between {rate(low[0])} and {rate(low[1])}"
        if not edges:
            return self._none_diverged(calibration, lr, value, remedy)
        lowest, highest = min(edges), max(edges)
        told = rate(lowest) if lowest == highest else f"{rate(lowest)} to {rate(highest)}"
        if lr >= highest and sure:
            sentence = f"Peak LR {rate(lr)} is above the stable edge: {where} training diverged from {told} on."
            return self.says("FAIL", value, sentence, remedy)
        if lr >= lowest / MARGIN:
            how = "not below" if lr >= lowest else f"only {lowest / lr:.2g} x below"
            sentence = f"Peak LR {rate(lr)} is {how} the LR from which on training diverged {where}, {told}."
            return self.says("WARNING", value, sentence, remedy)
        return self.says(
            "PASS", value, f"Peak LR {rate(lr)} is {lowest / lr:.2g} x below the LR that diverged {where}, {told}."
        )

    def _none_diverged(self, calibration: Calibration, lr: float, value: str, remedy: str | None) -> Judgement | None:
        trained = [trial.spec.peak_lr for trial in calibration.trials_here()]
        if not trained:
            return None
        if lr > max(trained):
            sentence = f"Peak LR {rate(lr)} is above {rate(max(trained))}, the highest that trained at this batch."
            return self.says("WARNING", value, sentence, remedy)
        sentence = f"Trials at this batch trained to the end up to LR {rate(max(trained))}; none diverged."
        return self.says("PASS", value, sentence)


def _edges(calibration: Calibration) -> tuple[list[float], bool, str]:
    """Return the LRs that diverged, whether they bound the batch of the config, and where they were measured."""
    size, cells = calibration.formed.global_batch_size, calibration.cells
    known = [cell for cell in cells if cell.diverged_above is not None]
    if calibration.cell is not None:
        own = calibration.cell
        return ([] if own.diverged_above is None else [own.diverged_above]), True, f"at batch {count(own.batch_size)}"
    if size is None or not known:
        return [], False, ""
    below = [cell for cell in known if cell.batch_size < size]
    above = [cell for cell in known if cell.batch_size > size]
    beside: list[Cell] = [*below[-1:], *above[:1]]
    where = "at batch " + " and ".join(count(cell.batch_size) for cell in beside)
    return [cell.diverged_above for cell in beside if cell.diverged_above is not None], bool(above), where


RULES.register(StableLR.key)(StableLR())
