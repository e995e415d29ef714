"""Figures and tables of a report as files of their own, and the report as Markdown."""

from __future__ import annotations

import html
import io
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrscale.report.base import Card, Figure, Panel, Table
from lrscale.report.canvas import Canvas
from lrscale.report.palette import color
from lrscale.report.words import block, short

if TYPE_CHECKING:
    from lrscale.recommend import Recommendation, Refusal
    from lrscale.study.finding import Check, Finding

SCALE = 2
"""Pixels of a PNG per CSS pixel, for screens of twice the density and for print."""


def write_figures(cards: Iterable[Card], folder: Path) -> tuple[Path, ...]:
    """Write every panel of every figure as SVG and as PNG, in the light colours of the report.

    Parameters
    ----------
    cards : iterable of Card
    folder : Path
        Made where it is absent; files of the same names are replaced.

    Returns
    -------
    tuple of Path
        ``<section>-<figure>[-<view>][-<panel>].svg`` and ``.png``. The finding that a figure carries is its title.
    """
    from lrscale.report.svg import report_style

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with report_style():
        for card in cards:
            for figure in card.figures:
                for name, panel in _panels(card, figure):
                    for kind in ("svg", "png"):
                        path = folder / f"{name}.{kind}"
                        path.write_bytes(draw_file(panel, kind, title=figure.alt))
                        written.append(path)
    return tuple(written)


def write_tables(cards: Iterable[Card], folder: Path) -> tuple[Path, ...]:
    """Write every table as CSV and as Parquet, the columns that the page hides included.

    Parameters
    ----------
    cards : iterable of Card
    folder : Path
        Made where it is absent; files of the same names are replaced.

    Returns
    -------
    tuple of Path
        ``<section>-<table>.csv`` and ``.parquet``. Lists and mappings are JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for card in cards:
        for table in card.tables:
            frame = _flat(table)
            packed = io.BytesIO()
            frame.to_parquet(packed, index=False)
            for kind, content in (("csv", frame.to_csv(index=False).encode()), ("parquet", packed.getvalue())):
                path = folder / f"{_slug(card.key, table.key)}.{kind}"
                path.write_bytes(content)
                written.append(path)
    return tuple(written)


def draw_file(panel: Panel, kind: str, *, title: str) -> bytes:
    """Return a panel as the content of an SVG or PNG file; call it within `report_style`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing
    from matplotlib.text import Annotation

    width, height = panel.wide
    drawing = Drawing(figsize=(width / 72, height / 72), dpi=72, facecolor=color("card"))
    FigureCanvasAgg(drawing)
    canvas = Canvas(drawing.add_axes((0.1, 0.1, 0.8, 0.8)), panel.wide)
    panel.draw(canvas)
    canvas.finish()
    for text in canvas.axes.texts:
        if isinstance(text, Annotation) and text.anncoords == "offset pixels":
            # A CSS pixel is a point at 72 dots per inch; a dot of a denser picture is less.
            text.anncoords = "offset points"
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # What matplotlib's font lacks becomes a box; a class name in another script is no reason to fail.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        about: dict[str, Any] = {"Title": short(title, 300)}
        about |= {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        drawing.savefig(buffer, format=kind, dpi=72 * (SCALE if kind == "png" else 1), metadata=about)
    return buffer.getvalue()


def report_markdown(
    name: str, answer: Recommendation | Refusal, findings: Sequence[Finding], checks: Sequence[Check]
) -> str:
    """Return a study as Markdown: the recommendation, each finding in a sentence, and what warns or fails.

    Parameters
    ----------
    name : str
        Name of the study.
    answer : Recommendation or Refusal
    findings : sequence of Finding
    checks : sequence of Check
        Of the report.
    """
    from lrscale.recommend import Recommendation

    if isinstance(answer, Recommendation):
        lines = [answer.markdown().rstrip("\n")]
    else:
        lines = [f"**{plain(name)}**: no recommendation. {plain(answer.sentence)} {plain(answer.needs)}"]
    lines += ["", "### Findings", "", *(f"- **{plain(one.title)}**: {plain(one.sentence)}" for one in findings)]
    told = [one for one in checks if one.status in ("FAIL", "WARNING")]
    lines += ["", "### Checks", ""]
    passed = sum(one.status == "PASS" for one in checks)
    lines += [f"- **{one.status}** {plain(one.name)}: {plain(one.sentence)} {_remedy(one)}".rstrip() for one in told]
    return "\n".join([*lines, f"- {passed} passed"]) + "\n"


def plain(text: str) -> str:
    r"""Return a text as it is to be read in Markdown: on one line, no markup of its own but code between backticks.

    Examples
    --------
    >>> plain("a|b <img src=x>\nc [d](e) `f_g`")
    'a\\|b &lt;img src=x&gt; c \\[d\\](e) `f_g`'
    """
    parts = re.split(r"(`[^`]+`)", " ".join(block(text).split()))
    return "".join(part if index % 2 else _escaped(part) for index, part in enumerate(parts))


def _escaped(text: str) -> str:
    return re.sub(r"([\\|*_`\[\]])", r"\\\1", html.escape(text, quote=False))


def _remedy(check: Check) -> str:
    return "" if check.remedy is None else f"Remedy: {plain(check.remedy)}"


def _panels(card: Card, figure: Figure) -> Iterator[tuple[str, Panel]]:
    for view in figure.views:
        for index, panel in enumerate(view.panels):
            parts = [card.key, figure.key]
            parts += [view.key] if len(figure.views) > 1 else []
            parts += [str(index + 1)] if len(view.panels) > 1 else []
            yield _slug(*parts), panel


def _slug(*parts: str) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") or "x" for part in parts)[:120]


def _flat(table: Table) -> Any:
    frame = table.frame()
    for name in frame.columns:
        values = frame[name].tolist()
        if any(isinstance(value, (Mapping, list, tuple)) for value in values):
            frame[name] = [json.dumps(value, default=str) for value in values]
        elif len({type(value) for value in values if value is not None}) > 1 and frame[name].dtype == object:
            # Parquet has one type a column.
            frame[name] = [None if value is None else str(value) for value in values]
    return frame
