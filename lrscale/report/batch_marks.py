"""Colours and marks that tell batch sizes apart within one pair of axes, and the key to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from lrscale.report.canvas import Canvas, text_width
from lrscale.report.palette import color
from lrscale.report.words import count

_ROLES = ("accent", "rule-c", "rule-b", "rule-a", "good", "bad")
# Not as many as the roles, so that a colour that comes again has another mark.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@final
@dataclass(frozen=True, slots=True)
class BatchMarks:
    """A role and a marker for each batch size of a study, in order.

    Examples
    --------
    >>> BatchMarks.of([64, 32, 64]).of_size(64)
    ('rule-c', 's')
    """

    sizes: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Iterable[int]) -> BatchMarks:
        """Return the marks of the distinct sizes."""
        return cls(tuple(sorted(set(sizes))))

    def of_size(self, size: int) -> tuple[str, str]:
        """Return the role and the marker of a batch size."""
        place = self.sizes.index(size)
        return _ROLES[place % len(_ROLES)], _MARKERS[place % len(_MARKERS)]

    def draw_key(self, canvas: Canvas) -> None:
        """Write each size beside its mark above the axes, as many as have room; they need a top margin of 26 pixels."""
        axes = canvas.axes
        whole = axes.figure.transFigure
        left, height = 56.0, 1 - 11 / canvas.height
        for size in self.sizes:
            role, marker = self.of_size(size)
            label = count(size)
            if left + 11 + text_width(label) > canvas.width:
                break
            axes.scatter(
                [left / canvas.width], [height], s=22, marker=marker, color=color(role), transform=whole, clip_on=False
            )
            axes.text(
                (left + 8) / canvas.width, height, label, transform=whole, va="center_baseline", color=color("muted")
            )
            left += text_width(label) + 24
