"""What a report is made of: cards, each a sentence with the figure and the numbers that carry it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

if TYPE_CHECKING:
    import pandas as pd

    from lrscale.report.canvas import Canvas
    from lrscale.report.context import ReportContext
    from lrscale.study.finding import Check

CardStatus = Literal["ok", "cannot_tell", "absent", "error"]
Kind = Literal["text", "rate", "loss", "number", "count", "duration", "percent", "status"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes.

    It is drawn once in each size; the style sheet shows the one that fits the screen.
    """

    draw: Callable[[Canvas], None]
    """Draws the data; takes numbers from the section, never from the store."""
    title: str = ""
    """Heading above the axes; empty for none."""
    wide: tuple[int, int] = (290, 235)
    """Width and height in CSS pixels."""
    narrow: tuple[int, int] | None = None
    """Size for screens narrower than 600 px; None where the wide one is narrow enough."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FigureView:
    """One way to look at a figure, chosen by a switch when there are several."""

    key: str
    panels: tuple[Panel, ...]
    choices: tuple[tuple[str, str], ...] = ()
    """Pairs of a switch and its position that select this view, for example ``("Against", "steps")``."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """A mark and what it means; the mark is a class of the style sheet."""

    mark: str
    label: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with the numbers that it draws."""

    key: str
    alt: str
    """The finding that the figure carries, as a sentence."""
    views: tuple[FigureView, ...]
    caption: str = ""
    """What is drawn, and how points were thinned."""
    legend: tuple[LegendEntry, ...] = ()
    points: Mapping[str, Any] = field(default_factory=dict)
    """What is drawn, as numbers by name."""
    layers: tuple[LegendEntry, ...] = ()
    """Marks that the reader can switch off; the mark is the class of the drawn lines."""

    @property
    def switches(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each switch with its positions, in order; those with a single position need none."""
        found: dict[str, dict[str, None]] = {}
        for view in self.views:
            for switch, position in view.choices:
                found.setdefault(switch, {})[position] = None
        return tuple((switch, tuple(positions)) for switch, positions in found.items() if len(positions) > 1)

    @classmethod
    def single(
        cls,
        key: str,
        panels: tuple[Panel, ...],
        *,
        alt: str,
        caption: str = "",
        legend: tuple[LegendEntry, ...] = (),
        points: Mapping[str, Any] | None = None,
    ) -> Figure:
        """Return a figure with one view."""
        view = FigureView(key="only", panels=panels)
        return cls(key=key, alt=alt, views=(view,), caption=caption, legend=legend, points=points or {})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    key: str
    label: str
    kind: Kind = "text"
    lo: str | None = None
    """Key of the lower bound, shown in brackets with the value."""
    hi: str | None = None
    """Key of the upper bound."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of JSON values with a description of what to show of them."""

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]
    sortable: bool = False
    open: bool = True
    """Whether it is unfolded; long ones are not."""

    def frame(self) -> pd.DataFrame:
        """Return the rows as a data frame, hidden columns included."""
        import pandas as pd

        return pd.DataFrame([dict(row) for row in self.rows])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A term and its value, for lists of facts."""

    term: str
    value: str
    detail: str = ""
    strong: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """Text to copy out of the report."""

    label: str
    text: str
    open: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One part of a report: the finding first, then what carries it."""

    key: str
    title: str
    finding: str
    """One sentence, with numbers, intervals and scope; or why it cannot be told, and what that would take."""
    status: CardStatus = "ok"
    facts: tuple[Fact, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    method: str = ""
    """How the numbers were made, with sources; paragraphs are separated by empty lines."""
    snippets: tuple[Snippet, ...] = ()
    runs: Mapping[str, Any] | None = None
    """Trajectories as JSON values, for the part of the page that the reader zooms, filters and smooths."""

    def table(self, key: str) -> Table:
        """Return a table by its key.

        Raises
        ------
        KeyError
            When the card has no such table.
        """
        for table in self.tables:
            if table.key == key:
                return table
        raise KeyError(key)

    def figure(self, key: str) -> Figure:
        """Return a figure by its key.

        Raises
        ------
        KeyError
            When the card has no such figure.
        """
        for figure in self.figures:
            if figure.key == key:
                return figure
        raise KeyError(key)


class AbstractSection(ABC):
    """A part of the report.

    Sections hold no state. They read the context and never train, fit or write.
    """

    key: ClassVar[str]
    """Its anchor in the page and, where it shows an experiment, that experiment's name."""
    title: ClassVar[str]

    @abstractmethod
    def applicable(self, context: ReportContext) -> str | None:
        """Return why the section cannot be made from this study, as a sentence, or None when it can."""

    @abstractmethod
    def compute(self, context: ReportContext) -> Card:
        """Return the card of an applicable section."""


def make_card(section: AbstractSection, context: ReportContext) -> Card:
    """Return the section's card; what keeps it from being made becomes a card as well.

    Parameters
    ----------
    section : AbstractSection
    context : ReportContext

    Returns
    -------
    Card
        With status ``"absent"`` and the reason when the section is not applicable, and ``"error"`` when it raised.
    """
    try:
        why_not = section.applicable(context)
        if why_not is not None:
            return Card(key=section.key, title=section.title, finding=why_not, status="absent")
        return section.compute(context)
    except Exception as error:  # whatever one section does wrong, the reader still gets the others
        return error_card(section.key, section.title, error)


def error_card(key: str, title: str, error: Exception) -> Card:
    """Return the card that stands in for a section that raised."""
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    where = f" in {frame.name}, line {frame.lineno} of {frame.filename.rsplit('/', 1)[-1]}" if frame else ""
    return Card(
        key=key,
        title=title,
        finding="This section could not be made. The rest of the report does not depend on it.",
        status="error",
        notes=(f"{type(error).__name__}{where}: {error}",),
    )
