"""From cards to one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from lrscale.report import words
from lrscale.report.base import Card, Column, Figure
from lrscale.report.palette import css_variables

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render_page(cards: Sequence[Card], *, head: Mapping[str, Any]) -> str:
    """Return the page.

    Parameters
    ----------
    cards : sequence of Card
        In the order of the page; the first is the first screen.
    head : mapping
        ``title``, ``facts`` (list of str) and ``counts`` (list of pairs of status and number).

    Returns
    -------
    str
        HTML that refers to nothing outside itself. Its content-security policy allows one style sheet and one script,
        by their hashes, and no connection.
    """
    script = _file("report.js")
    if any(card.runs is not None for card in cards):
        script += _file("explorer.js")
    style = style_sheet()
    policy = _policy(style, script)
    drawn = {card.key: tuple(_draw(card, figure) for figure in card.figures) for card in cards}
    template = _environment().get_template("report.html.j2")
    return template.render(cards=cards, figures=drawn, head=head, style=style, script=script, policy=policy)


def render_list(rows: Sequence[Mapping[str, Any]], *, title: str, sentence: str, footer: str) -> str:
    """Return a page that lists studies, in the style of the report and under the same policy, without a script."""
    style = style_sheet()
    template = _environment().get_template("index.html.j2")
    return template.render(
        rows=rows, title=title, sentence=sentence, footer=footer, style=style, policy=_policy(style, None)
    )


def _policy(style: str, script: str | None) -> str:
    scripts = () if script is None else (f"script-src {_hash(script)}",)
    ends = ("img-src data:", "base-uri 'none'", "form-action 'none'")
    return "; ".join(("default-src 'none'", f"style-src {_hash(style)}", *scripts, *ends))


@cache
def style_sheet() -> str:
    """Return the style sheet with the palette of both themes."""
    light, dark = css_variables(dark=False), css_variables(dark=True)
    swatches = "".join(f".lr-{level}{{background:var(--lr-{level})}}" for level in range(12))
    themes = (
        f":root{{color-scheme:light dark;{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"{swatches}"
    )
    return f"\n{themes}\n{_file('report.css')}"


def cell(row: Mapping[str, Any], column: Column) -> dict[str, Any]:
    """Return the text of a table cell, the value that it sorts by, and the interval with all digits.

    Examples
    --------
    >>> cell({"lr": 0.00193, "lo": 0.0014, "hi": 0.0026}, Column(key="lr", label="LR", kind="rate", lo="lo", hi="hi"))
    {'text': '1.9e-3 (1.4e-3 to 2.6e-3)', 'value': 0.00193, 'number': True, 'lo': 0.0014, 'hi': 0.0026}
    >>> gap = Column(key="gap", label="Gap", kind="count", lo="lo", hi="hi")
    >>> cell({"gap": -3817, "lo": -13_940, "hi": 6205}, gap)["text"]
    '-3,817 (-13.9k to 6,205)'
    """
    value = row.get(column.key)
    number = column.kind not in ("text", "status")
    lo, hi = (row.get(name) if name else None for name in (column.lo, column.hi))
    if not number:
        text = words.EMPTY if value is None or value == "" else words.block(value, 400)
        text = text.replace("_", " ") if column.kind == "status" else text
    elif not words.finite(value):
        text = words.EMPTY if value is None else words.short(value)
        value = None
    elif lo == value == hi:
        text = words.significant(value)
    elif column.kind == "loss":
        text = words.loss_between(value, lo, hi)
    elif column.kind == "count" and words.finite(lo) and words.finite(hi):
        text = f"{words.count(value)} ({words.count(lo)} to {words.count(hi)})"
    elif column.lo or column.hi:
        text = words.with_interval(value, lo, hi)
    else:
        text = _FORMATS[column.kind](value)
    shown = {"text": text, "value": value, "number": number}
    bounds = {name: bound for name, bound in (("lo", lo), ("hi", hi)) if number and words.finite(bound)}
    return {**shown, **bounds}


def unbroken(text: str, limit: int = 1_000) -> Markup:
    """Return escaped text in which no line ends inside a number such as 1e-3, or between it and its unit.

    Examples
    --------
    >>> print(unbroken("below <1.9e-3>"))
    below &lt;<span class="n">1.9e-3</span>&gt;
    """
    from markupsafe import Markup, escape

    return Markup(_EXPONENT.sub(r'<span class="n">\g<0></span>', str(escape(words.block(text, limit)))))


def as_attribute(values: Mapping[str, Any]) -> Markup:
    """Return JSON values as the content of an attribute; text in them is ASCII, with escapes for the rest.

    Examples
    --------
    >>> print(as_attribute({"name": "<b>"}))
    {&#34;name&#34;:&#34;&lt;b&gt;&#34;}
    """
    from markupsafe import escape

    return escape(json.dumps(values, separators=(",", ":"), allow_nan=False))


def code(text: str | Markup) -> Markup:
    """Return escaped text in which what stands between backticks is marked as code.

    Examples
    --------
    >>> print(code("set `a<b`, or wait"))
    set <code>a&lt;b</code>, or wait
    """
    from markupsafe import Markup, escape

    return Markup(_BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))


_BACKTICKS = re.compile(r"`([^`]+)`")
_EXPONENT = re.compile(r"\d[\d.,]*(?:e-\d+)?(?: (?:%|ms|s|min|h|days)(?!\w))|\b\d+(?:\.\d+)?e-\d+\b")

_FORMATS: dict[str, Any] = {
    "rate": words.rate,
    "number": words.significant,
    "count": words.count,
    "duration": words.duration,
    "percent": words.percent,
}


def _draw(card: Card, figure: Figure) -> dict[str, Any]:
    from lrscale.report.svg import draw_panel

    views = []
    for view in figure.views:
        panels = []
        for index, panel in enumerate(view.panels):
            prefix = f"{card.key}-{figure.key}-{view.key}-{index}-"
            try:
                wide = draw_panel(panel, panel.wide, f"{prefix}w-")
                narrow = draw_panel(panel, panel.narrow, f"{prefix}n-") if panel.narrow else None
                panels.append({"title": panel.title, "wide": wide, "narrow": narrow, "error": None})
            except Exception as error:  # a panel that cannot be drawn leaves the numbers and the other panels
                panels.append({"title": panel.title, "error": f"{type(error).__name__}: {error}"})
        switches = {name for name, _ in figure.switches}
        chosen = "|".join(position for switch, position in view.choices if switch in switches)
        views.append({"key": view.key, "choice": chosen, "panels": panels})
    return {"figure": figure, "views": views}


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lrscale.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_clean,
    )
    environment.globals["cell"] = cell
    environment.filters["data"] = as_attribute
    environment.filters["block"] = words.block
    environment.filters["short"] = words.short
    environment.filters["unbroken"] = unbroken
    environment.filters["code"] = code
    environment.filters["paragraphs"] = lambda text: [part for part in text.split("\n\n") if part.strip()]
    return environment


def _clean(value: Any) -> Any:
    # Last line of defence: no user text reaches the page with control characters or marks that reorder its neighbours.
    from markupsafe import Markup

    return words.block(value, 1_000_000) if isinstance(value, str) and not isinstance(value, Markup) else value


def _file(name: str) -> str:
    return resources.files("lrscale.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
