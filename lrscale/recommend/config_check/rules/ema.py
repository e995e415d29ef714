"""Whether an average of the weights forgets in the same number of examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

from typing_extensions import override

from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement
from lrscale.recommend.config_check.search import entries
from lrscale.recommend.words import count

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration

RATIO = 1.5
"""Ratio of half-lives in examples from which on they are told apart."""


@final
class EMADecay(AbstractRule):
    """Compares the half-life in examples of an exponential average of the weights with that of the recipe's own task.

    At k times the batch the decay is to be raised to the power k (Busbridge et al. 2023, arXiv:2307.13813): it acts
    once a step, and there are k times fewer of them.

    Status Logic
    ------------
    WARNING where the half-lives differ by a factor of 1.5 or more; INFO where the task of the study has none to compare
    with; PASS otherwise. Not asked where the config has no such average.
    """

    key: ClassVar[str] = "ema"
    question: ClassVar[str] = "Does the average of the weights forget in as many examples as in the study?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        found, size = calibration.config.ema, calibration.formed.global_batch_size
        if found is None or size is None or not 0 < found.value < 1:
            return None
        value = f"{found.key} {found.value:g}"
        mine = size * _half_life(found.value)
        own = _own_decay(calibration)
        reference = calibration.facts.get("own_batch_size")
        if own is None or not isinstance(reference, int):
            return self.says(
                "INFO",
                value,
                f"At batch {count(size)} an average of decay {found.value:g} forgets half in {mine:,.0f} examples.",
            )
        theirs = reference * _half_life(own)
        told = f"forgets half in {mine:,.0f} examples; the task as calibrated, {own:g} at batch {count(reference)}, in "
        told += f"{theirs:,.0f}"
        if 1 / RATIO < mine / theirs < RATIO:
            return self.says("PASS", value, f"The average of the weights {told}.")
        return self.says(
            "WARNING",
            value,
            f"The average of the weights {told}: its decay was not moved with the batch.",
            f"set {found.key}: {own ** (size / reference):.6g}",
        )


def _half_life(decay: float) -> float:
    return math.log(2) / -math.log(decay)


def _own_decay(calibration: Calibration) -> float | None:
    model = calibration.recipe.task.model
    arguments: Mapping[str, Any] = {} if model is None else model.init_args
    found = [
        value
        for key, value in entries(arguments)
        if key.rpartition(".")[2] in ("ema_decay", "ema_momentum") and isinstance(value, (int, float)) and 0 < value < 1
    ]
    return float(found[0]) if len(found) == 1 else None


RULES.register(EMADecay.key)(EMADecay())
