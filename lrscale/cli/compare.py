"""``lrscale compare``: two studies side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lrscale.cli.guard import DONE, NO
from lrscale.cli.study_access import OpenStudy, open_study
from lrscale.cli.text import table, wrapped
from lrscale.errors import LrscaleError

if TYPE_CHECKING:
    from lrscale.compare import Side, StudyComparison


def compare_paths(a: Path, b: Path, *, margin: float | None, markdown: bool, report: Path | None) -> int:
    """Compare two study folders and print what differs; only the report is written.

    Parameters
    ----------
    a, b : Path
        Study folders.
    margin : float or None
        Relative loss that does not matter.
    markdown : bool
        Print Markdown instead of text.
    report : Path or None
        HTML file to write.

    Returns
    -------
    int
        1 when the studies measured nothing in common, else 0.
    """
    from lrscale.compare import compare_studies, labels_of
    from lrscale.compare.words import markdown as as_markdown
    from lrscale.store.files import write_atomically

    opened = [open_study(path) for path in (a, b)]
    labels = labels_of([one.recipe.name for one in opened], [path.resolve().name for path in (a, b)])
    sides = [_side(study, label) for study, label in zip(opened, labels, strict=True)]
    comparison = compare_studies(sides[0], sides[1], tolerance=margin)
    if report is not None:
        from lrscale.report.comparison import render_comparison

        if not report.parent.is_dir():
            raise LrscaleError(f"there is no folder {report.parent} for {report.name}", hint="make it first")
        write_atomically(report, render_comparison(comparison))
    typer.echo((as_markdown(comparison) if markdown else text(comparison)).rstrip("\n"))
    if report is not None:
        typer.echo(f"report: {report}", err=markdown)
    return DONE if comparison.contrasts else NO


def text(comparison: StudyComparison) -> str:
    """Return the comparison as paragraphs: the answer, what differs, what does not, what was set differently."""
    from lrscale.compare.words import contrast_sentence, headline, recommended

    a, b = comparison.a.label, comparison.b.label
    lines = [wrapped(headline(comparison)), ""]
    lines += [wrapped(caveat, indent="  ", first="! ") for caveat in comparison.setup.caveats]
    for standing, title in (("differs", "differs"), ("same", "the same"), ("cannot tell", "cannot tell")):
        found = [one for one in comparison.contrasts if one.standing == standing]
        if found:
            lines += ["", f"{title}:"]
            lines += [wrapped(contrast_sentence(one, a, b), indent="    ", first="  - ") for one in found]
    lines += ["", "recommended:"]
    lines += [
        wrapped(f"{side.label}: {recommended(side.answer)}", indent="    ", first="  ") for side in _both(comparison)
    ]
    rows = [[one.name, one.a, one.b] for one in (*comparison.setup.different, *comparison.setup.measured)]
    if rows:
        lines += ["", "set differently:", table(["", a, b], rows)]
    lines += ["", *(wrapped(sentence, indent="  ", first="- ") for sentence in comparison.absent)]
    told = f"Intervals are 95 % each; of these, about {comparison.chance:.1f} would name a difference by chance."
    return "\n".join([*lines, wrapped(told)])


def _both(comparison: StudyComparison) -> tuple[Side, Side]:
    return comparison.a, comparison.b


def _side(study: OpenStudy, label: str) -> Side:
    from lrscale.compare import Side
    from lrscale.recommend import recommend

    findings = study.findings()
    answer = recommend(study.recipe, study.view, findings)
    return Side(label=label, recipe=study.recipe, view=study.view, findings=findings, answer=answer)
