"""The rule that keeps the memory of the optimizer the same number of examples long."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

from typing_extensions import override

from lrscale.companions.base import COMPANIONS, AbstractCompanions, GroupSettings, Moved, check_ratio


@final
class HalfLife(AbstractCompanions):
    """``beta2' = beta2^k`` and a decoupled ``weight_decay' = k weight_decay`` at batch ratio k.

    The second moment then forgets half of its past in the same number of examples at every batch size (Marek et al.
    2025, arXiv:2507.07101, who leave beta1 as it is). It agrees with `SDE` for small ``k (1 - beta2)`` and never turns
    negative. Weight decay keeps the time scale of AdamW in examples, ``B / (LR weight_decay)``, at a given LR (Wang and
    Aitchison 2024, arXiv:2405.13698; Bergsma et al. 2025, arXiv:2505.13738). Warm-up is a share of the examples in
    every trial already. Momentum of SGD, and weight decay that is added to the gradient, stay.

    Examples
    --------
    >>> moved = HalfLife().move(GroupSettings(beta1=0.9, beta2=0.98, weight_decay=0.1, decoupled=True), 2.0).settings
    >>> moved.beta1, round(moved.beta2, 6), moved.weight_decay
    (0.9, 0.9604, 0.2)
    """

    key: ClassVar[str] = "half-life"
    sentence: ClassVar[str] = "The second moment and decoupled weight decay forget in the same number of examples."

    @override
    def move(self, own: GroupSettings, ratio: float) -> Moved:
        check_ratio(ratio)
        if ratio == 1:
            return Moved(settings=own)
        beta2 = None if own.beta2 is None else own.beta2**ratio
        decay = own.weight_decay
        if decay is not None and own.decoupled:
            decay *= ratio
        return Moved(settings=dataclasses.replace(own, beta2=beta2, weight_decay=decay))


COMPANIONS.register(HalfLife.key)(HalfLife())
