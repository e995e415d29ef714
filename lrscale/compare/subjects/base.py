"""What a subject of a comparison is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from lrscale.registry import Registry

if TYPE_CHECKING:
    from lrscale.compare.contrast import Contrast
    from lrscale.compare.setup import Setup
    from lrscale.compare.side import Side


class AbstractSubject(ABC):
    """One kind of number that two studies may have in common."""

    key: ClassVar[str]
    title: ClassVar[str]
    method: ClassVar[str]
    """How its intervals and its margin are made, in a sentence or two."""

    @abstractmethod
    def contrasts(self, a: Side, b: Side, setup: Setup) -> Sequence[Contrast]:
        """Return what both studies measured, each with the interval of its difference.

        Parameters
        ----------
        a, b : Side
        setup : Setup
            What was set differently, and whether losses may be compared.
        """

    def missing(self, a: Side, b: Side) -> str:
        """Return why there is nothing to compare, as a sentence."""
        del a, b
        return f"Not in both: {self.title[:1].lower()}{self.title[1:]}."


SUBJECTS: Registry[AbstractSubject] = Registry("subject of a comparison")
