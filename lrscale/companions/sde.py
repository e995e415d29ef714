"""The rule that keeps the stochastic differential equation of Adam."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, final

from typing_extensions import override

from lrscale.companions.base import COMPANIONS, AbstractCompanions, GroupSettings, Moved, check_ratio

VALID_UP_TO = 0.5
"""k (1 - beta) from which on the rule is far from k (1 - beta) << 1, which its derivation needs."""


@final
class SDE(AbstractCompanions):
    """Adam and RMSprop: ``1 - beta' = k (1 - beta)`` for both moments and ``eps' = eps / sqrt(k)`` at batch ratio k.

    With an LR that grows as sqrt(k) the iterates keep the same stochastic differential equation (Malladi et al. 2022,
    arXiv:2205.10287, from their authors' summary); here the LR is searched for instead. It holds where noise dominates
    the gradient and ``k (1 - beta) << 1``. A beta that would be negative is held at 0, with a warning. SGD keeps its
    momentum m: the temperature ``LR / (B (1 - m))`` (Smith and Le 2018, arXiv:1710.06451) is kept by the LR alone.
    Weight decay is not part of the derivation and stays.

    Examples
    --------
    >>> moved = SDE().move(GroupSettings(beta1=0.9, beta2=0.999, eps=1e-8), 4.0).settings
    >>> round(moved.beta1, 6), round(moved.beta2, 6), moved.eps
    (0.6, 0.996, 5e-09)
    """

    key: ClassVar[str] = "sde"
    sentence: ClassVar[str] = "1 - beta1 and 1 - beta2 grow with the batch size, eps falls with its root."

    @override
    def move(self, own: GroupSettings, ratio: float) -> Moved:
        check_ratio(ratio)
        if own.beta2 is None or ratio == 1:
            return Moved(settings=own)
        warnings: list[str] = []
        beta1 = None if own.beta1 is None else _moved(own.beta1, ratio, "beta1", warnings)
        beta2 = _moved(own.beta2, ratio, "beta2", warnings)
        eps = None if own.eps is None else own.eps / math.sqrt(ratio)
        return Moved(
            settings=dataclasses.replace(own, beta1=beta1, beta2=beta2, eps=eps),
            warnings=tuple(warnings),
        )


def _moved(beta: float, ratio: float, name: str, warnings: list[str]) -> float:
    share = ratio * (1 - beta)
    if share > 1:
        warnings.append(
            f"companions sde: {name} would be {1 - share:.3g} at {ratio:.4g} times the reference batch size and is "
            "held at 0"
        )
    elif share > VALID_UP_TO:
        warnings.append(
            f"companions sde: {name} {1 - share:.3g} at {ratio:.4g} times the reference batch size is outside of the "
            f"rule's range, since k (1 - beta) is {share:.3g} and must be far below 1"
        )
    return max(0.0, 1 - share)


COMPANIONS.register(SDE.key)(SDE())
