"""Nothing moves but the LR."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.companions.base import COMPANIONS, AbstractCompanions, GroupSettings, Moved, check_ratio


@final
class Unmoved(AbstractCompanions):
    """The module's own settings at every batch size.

    Examples
    --------
    >>> own = GroupSettings(beta1=0.9, beta2=0.95, eps=1e-8)
    >>> Unmoved().move(own, 16.0).settings == own
    True
    """

    key: ClassVar[str] = "none"
    sentence: ClassVar[str] = "Nothing moves with the batch size but the LR."

    @override
    def move(self, own: GroupSettings, ratio: float) -> Moved:
        check_ratio(ratio)
        return Moved(settings=own)


COMPANIONS.register(Unmoved.key)(Unmoved())
