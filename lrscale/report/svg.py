"""From matplotlib to an SVG that lives inside a page: themed, small, with unique ids and text that stays text."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree as ET

from lrscale.report.base import Panel
from lrscale.report.canvas import FONT, Canvas
from lrscale.report.palette import color, variables

_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_PRESENTATION = frozenset(
    "fill fill-opacity stroke stroke-opacity stroke-width stroke-dasharray stroke-dashoffset stroke-linecap "
    "stroke-linejoin opacity text-anchor font-size font-weight clip-path".split()
)


@contextmanager
def report_style() -> Iterator[None]:
    """Draw in the report's style: seaborn's ticks without decoration, one size of text, roles as colours."""
    import matplotlib
    import seaborn as sns

    settings: Any = {
        **sns.axes_style("ticks"),
        "svg.fonttype": "none",
        "svg.hashsalt": "lrscale",
        "text.parse_math": False,
        "axes.unicode_minus": False,
        "figure.dpi": 72,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": FONT,
        "text.color": color("ink"),
        "lines.solid_capstyle": "round",
        "path.simplify": True,
        "path.simplify_threshold": 0.3,
    }
    with matplotlib.rc_context(settings):
        yield


def draw_panel(panel: Panel, size: tuple[int, int], prefix: str) -> str:
    """Return a panel as an SVG element; call it within `report_style`.

    Parameters
    ----------
    panel : Panel
    size : tuple of int
        Width and height in CSS pixels.
    prefix : str
        Starts every id in the SVG; unique in the page.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72)
    backend = FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    canvas = Canvas(figure.add_axes((0.1, 0.1, 0.8, 0.8)), size)
    panel.draw(canvas)
    canvas.finish()
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The page's own fonts draw the text; that matplotlib's has no such glyph matters to nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        backend.print_svg(  # type: ignore[no-untyped-call]  # matplotlib leaves it unannotated
            buffer, metadata={"Date": None, "Creator": None}
        )
    return clean_svg(buffer.getvalue(), prefix=prefix, titles=canvas.titles, classes=canvas.classes)


def clean_svg(
    text: str,
    *,
    prefix: str,
    titles: Mapping[str, str | list[str]] | None = None,
    classes: Mapping[str, str] | None = None,
) -> str:
    """Return matplotlib's SVG as an element for an HTML page.

    Inline styles become presentation attributes, which a strict content-security policy allows; known colours become
    the page's CSS variables; ids that nothing refers to go, the others get the prefix.

    Parameters
    ----------
    text : str
        What matplotlib wrote.
    prefix : str
        Starts every id that is kept.
    titles : mapping or None, optional
        Group id to its hover title, or to one title per point. Default None.
    classes : mapping or None, optional
        Group id to a CSS class. Default None.
    """
    root = ET.fromstring(text)
    _strip_namespaces(root)
    for tag in ("metadata", "style"):
        _remove_all(root, tag)
    used = _references(root)
    for element in list(root.iter()):
        _rewrite(element, prefix=prefix, used=used, titles=titles or {}, classes=classes or {})
    _flatten(root)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib = {
        "viewBox": f"0 0 {float(width):g} {float(height):g}",
        "width": f"{float(width):g}",
        "height": f"{float(height):g}",
        "aria-hidden": "true",
        "focusable": "false",
    }
    return ET.tostring(root, encoding="unicode")


def _strip_namespaces(root: ET.Element) -> None:
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in list(element.attrib):
            if name.startswith("{"):
                value = element.attrib.pop(name)
                if name.endswith("}href"):
                    element.attrib["href"] = value
        if element.text is not None and not element.text.strip():
            element.text = None
        element.tail = None


def _remove_all(root: ET.Element, tag: str) -> None:
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag == tag]:
            parent.remove(child)
        for child in [child for child in parent if child.tag == "defs" and not len(child)]:
            parent.remove(child)


def _references(root: ET.Element) -> set[str]:
    used: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "href":
                used.add(value.removeprefix("#"))
            used.update(_REFERENCE.findall(value))
    return used


def _rewrite(
    element: ET.Element,
    *,
    prefix: str,
    used: set[str],
    titles: Mapping[str, str | list[str]],
    classes: Mapping[str, str],
) -> None:
    attributes = element.attrib
    for name, value in _declarations(attributes.pop("style", "")):
        if name == "font":
            attributes["font-size"] = re.sub(r"^.*?([\d.]+)px.*$", r"\1", value)
        elif name in _PRESENTATION:
            attributes[name] = value
    themed = variables()
    for name, value in attributes.items():
        if name in ("fill", "stroke"):
            attributes[name] = themed.get(value.lower(), value)
        elif name in ("d", "transform", "x", "y"):
            attributes[name] = _NUMBER.sub(_round, value).replace("\n", " ").replace(" L ", "L").replace("M ", "M")
        elif name == "href":
            attributes[name] = f"#{prefix}{value.removeprefix('#')}"
        elif "url(#" in value:
            attributes[name] = _REFERENCE.sub(lambda match: f"url(#{prefix}{match.group(1)})", value)
    name = attributes.pop("id", "")
    if name in titles:
        _add_titles(element, titles[name])
    if name in classes:
        for target in [child for child in element.iter() if child.tag == "text"] or [element]:
            target.attrib["class"] = classes[name]
    if name in used:
        attributes["id"] = f"{prefix}{name}"


def _add_titles(group: ET.Element, text: str | list[str]) -> None:
    def title(words: str) -> ET.Element:
        element = ET.Element("title")
        element.text = words
        return element

    if isinstance(text, str):
        group.insert(0, title(text))
        return
    marks = [child for child in group.iter() if child.tag == "use"]
    if len(marks) != len(text):
        # matplotlib writes a lone point as a path instead of a <use>.
        paths = [child for child in group.iter() if child.tag == "path"]
        marks = paths if len(paths) == len(text) else []
    for mark, words in zip(marks, text, strict=False):
        mark.insert(0, title(words))


def _flatten(element: ET.Element) -> None:
    children: list[ET.Element] = []
    for child in element:
        _flatten(child)
        if child.tag == "g" and not child.attrib and not any(part.tag == "title" for part in child):
            children.extend(child)
        else:
            children.append(child)
    element[:] = children


def _declarations(style: str) -> list[tuple[str, str]]:
    pairs = (part.split(":", 1) for part in style.split(";") if ":" in part)
    return [(name.strip(), value.strip()) for name, value in pairs]


def _round(match: re.Match[str]) -> str:
    return f"{float(match.group()):.1f}".removesuffix(".0")
