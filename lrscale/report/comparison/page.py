"""From a comparison to one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from lrscale.compare import SUBJECTS, Contrast, Side, StudyComparison
from lrscale.compare.subjects.schedules import verdicts
from lrscale.compare.words import (
    contrast_sentence,
    effect_text,
    headline,
    margin_text,
    markdown,
    recommended,
    value_text,
)
from lrscale.report.base import Card, Column, Fact, Figure, Panel, Snippet, Table
from lrscale.report.comparison.forest import forest_figure
from lrscale.report.slice_plot import LEGEND, SliceData, SliceLimits, draw_slice
from lrscale.report.table.page import made_cards
from lrscale.report.words import count


def render_comparison(comparison: StudyComparison) -> str:
    """Return the comparison as one self-contained HTML file; nothing is fitted or written."""
    import lrscale
    from lrscale.report.html import render_page
    from lrscale.report.svg import report_style

    head = {
        "title": f"{comparison.a.label} and {comparison.b.label}",
        "facts": ["two studies side by side", f"{len(comparison.contrasts)} numbers that both measured"],
        "counts": [],
        "footer": f"Made by lrscale {lrscale.__version__} from the records of the two studies alone.",
    }
    with report_style():
        return render_page(comparison_cards(comparison), head=head)


def comparison_cards(comparison: StudyComparison) -> tuple[Card, ...]:
    """Return the cards in the order of the page; one that cannot be made says so and leaves the others."""
    makers = [
        ("overview", "What differs?", partial(_overview, comparison)),
        ("setup", "What was set differently?", partial(_setup, comparison)),
    ]
    for key, subject in SUBJECTS.items():
        if comparison.of(key):
            makers.append((key, subject.title, partial(_subject, comparison, key)))
    makers += [
        ("slices", "Loss against learning rate in both", partial(_slices, comparison)),
        ("methods", "Methods", partial(_methods, comparison)),
    ]
    return made_cards(makers)


def _overview(comparison: StudyComparison) -> Card:
    a, b = comparison.a, comparison.b
    ratios = [one for one in comparison.contrasts if one.scale == "ratio"]
    figure = forest_figure("ratios", ratios, alt=_alt(comparison, ratios), axis=f"{b.label} / {a.label}")
    differing = [contrast_sentence(one, a.label, b.label) for one in comparison.having("differs")]
    told = [(side, verdicts(side)) for side in (a, b)]
    return Card(
        key="overview",
        title="What differs?",
        finding=headline(comparison),
        status="ok" if comparison.contrasts else "cannot_tell",
        facts=(
            Fact(term=a.label, value=recommended(a.answer), strong=True),
            Fact(term=b.label, value=recommended(b.answer), strong=True),
            *(Fact(term=f"Schedules in {side.label}", value=words) for side, words in told if words),
        ),
        figures=() if figure is None else (figure,),
        notes=(*comparison.setup.caveats, *differing, *comparison.absent),
        snippets=(Snippet(label="Markdown summary", text=markdown(comparison)),),
        method=(
            f"Every ratio is {b.label} over {a.label}, every difference {b.label} minus {a.label}. Each interval is 95 "
            f"% on its own: of these, about {comparison.chance:.1f} would name a difference although there is none. A "
            "difference is named where its interval excludes equality and leaves the margin; two numbers are the same "
            "where the whole interval lies within the margin; everything else cannot be told."
        ),
    )


def _setup(comparison: StudyComparison) -> Card:
    rows = [
        {"name": one.name, "a": one.a, "b": one.b} for one in (*comparison.setup.different, *comparison.setup.measured)
    ]
    first = comparison.setup.different[:3]
    named = ", ".join(one.name for one in first)
    more = len(rows) - len(first)
    sentence = f"{named}{f' and {more} more' if more > 0 else ''}." if first else "The recipes ask the same."
    return Card(
        key="setup",
        title="What was set differently?",
        finding=sentence,
        tables=(
            Table(
                key="setup",
                caption="Settings that differ",
                columns=(
                    Column(key="name", label="setting"),
                    Column(key="a", label=comparison.a.label),
                    Column(key="b", label=comparison.b.label),
                ),
                rows=tuple(rows),
            ),
        ),
        method="Recipes as resolved, without name, layout, cost and target; what the trials found out about the "
        "module, its data and the machine.",
    )


def _subject(comparison: StudyComparison, key: str) -> Card:
    a, b = comparison.a.label, comparison.b.label
    found = comparison.of(key)
    sentences = [contrast_sentence(one, a, b) for one in found]
    first = next((one for one in found if one.standing == "differs"), found[0])
    figures: list[Figure] = []
    # The ratios stand on the first screen already.
    if found[0].scale == "difference":
        axis = "difference relative to the loss" if found[0].kind == "loss" else f"{b} minus {a}"
        forest = forest_figure("forest", found, alt=_alt(comparison, found), axis=axis)
        figures += [] if forest is None else [forest]
    return Card(
        key=key,
        title=SUBJECTS[key].title,
        finding=contrast_sentence(first, a, b),
        status="ok" if any(one.standing != "cannot tell" for one in found) else "cannot_tell",
        figures=tuple(figures),
        tables=(_table(key, found, a, b),),
        notes=tuple(sentence for sentence, one in zip(sentences, found, strict=True) if one is not first),
        method=SUBJECTS[key].method,
    )


def _table(key: str, found: Sequence[Contrast], a: str, b: str) -> Table:
    columns = (
        Column(key="name", label="what"),
        Column(key="a", label=f"{a} (95 %)"),
        Column(key="b", label=f"{b} (95 %)"),
        Column(key="effect", label=f"{b} against {a}"),
        Column(key="margin", label="margin"),
        Column(key="standing", label="verdict"),
    )
    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "a": value_text(one.a, one.kind),
            "b": value_text(one.b, one.kind),
            "effect": effect_text(one),
            "margin": margin_text(one),
            "standing": one.standing,
        }
        for one in found
    ]
    return Table(key=key, caption=f"{SUBJECTS[key].title} in both studies", columns=columns, rows=tuple(rows))


def _slices(comparison: StudyComparison) -> Card:
    drawn = [
        data
        for size in _sizes(comparison)
        for side in (comparison.a, comparison.b)
        if (data := _slice(side, size)) is not None
    ]
    # Losses of two yardsticks share no axis.
    shared = SliceLimits.of(drawn) if comparison.setup.loss_reason is None else None
    panels = []
    for data in drawn:
        limits = shared or SliceLimits.of([data])
        if limits is not None:
            monitor = comparison.a.monitor or "loss"
            panels.append(Panel(draw=partial(draw_slice, data=data, limits=limits, monitor=monitor), title=data.title))
    if not panels:
        sentence = "Neither study has swept learning rates (experiments.scaling)."
        return Card(key="slices", title="Loss against learning rate in both", finding=sentence, status="absent")
    found = comparison.of("best_lr")
    told = [contrast_sentence(one, comparison.a.label, comparison.b.label) for one in found]
    alt = told[0] if told else "The studies have no batch size in common."
    caption = (
        "All panels share both axes." if shared else "Each panel has its own axes: the losses are not of one kind."
    )
    return Card(
        key="slices",
        title="Loss against learning rate in both",
        finding=alt,
        figures=(Figure.single("slices", tuple(panels), alt=alt, caption=caption, legend=LEGEND),),
    )


def _sizes(comparison: StudyComparison) -> list[int]:
    cells = [side.scaling.get("cells", ()) for side in (comparison.a, comparison.b)]
    return sorted({int(cell["batch_size"]) for own in cells for cell in own})


def _slice(side: Side, size: int) -> SliceData | None:
    for cell in side.scaling.get("cells", ()):
        if cell["batch_size"] == size:
            trials = [side.view.trials[name] for name in cell.get("trials", ()) if name in side.view.trials]
            return SliceData.of(f"{side.label}, batch {count(size)}", trials, cell.get("slice") or {})
    return None


def _methods(comparison: StudyComparison) -> Card:
    parts = [f"{subject.title}. {subject.method}" for key, subject in SUBJECTS.items() if comparison.of(key)]
    sources = (
        "Zou, Donner: Construction of confidence limits about effect measures. Statistics in Medicine 27 (2008), for "
        "the interval of a difference or ratio of independent estimates."
    )
    return Card(
        key="methods",
        title="Methods",
        finding="Both studies are fitted by the same laws, and no difference is shown without its interval.",
        method="\n\n".join([*parts, sources]),
    )


def _alt(comparison: StudyComparison, found: Sequence[Contrast]) -> str:
    a, b = comparison.a.label, comparison.b.label
    differing = [one for one in found if one.standing == "differs"]
    if differing:
        return contrast_sentence(differing[0], a, b)
    return f"None of {len(found)} effects is told apart from equality."
