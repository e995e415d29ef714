"""Do the fits hold: trials against the curves of their slices, and how near the rival laws are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Fact, Figure, Panel, Table
from lrscale.report.batch_marks import BatchMarks
from lrscale.report.canvas import Canvas, padded
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import between, count, finite, listing, plural, rate, significant
from lrscale.study.fit_residuals import AROUND, BY_BATCH, BY_ZONE, RESIDUALS

BATCH_COLUMNS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="trials", label="trials", kind="count"),
    Column(key="noise", label="noise from"),
    Column(key="misfit", label="LR means off the curve", kind="number"),
    Column(key="misfit_chance", label="by chance up to", kind="number"),
    Column(key="largest", label="farthest trial", kind="number"),
    Column(key="lr", label="at LR", kind="rate"),
    Column(key="seed", label="seed"),
    Column(key="largest_chance", label="by chance up to", kind="number"),
    Column(key="outliers", label="outliers", kind="count"),
)
ZONE_COLUMNS = (
    Column(key="place", label="LR"),
    Column(key="rates", label="LRs", kind="count"),
    Column(key="trials", label="trials", kind="count"),
    Column(key="mean", label="mean (interval)", kind="number", lo="lo", hi="hi"),
)
PLACES = {
    "below": f"below 1/{AROUND:g} of the best LR",
    "around": f"within a factor of {AROUND:g} of it",
    "above": f"above {AROUND:g} times the best LR",
}
METHOD = (
    "A residual is the loss of a trial minus the fitted slice, the level of its seed included, over the standard "
    "deviation that the fit expects of it: the noise of the slice, larger where replicates far from the best LR "
    "differ more; the error of the shape that is allowed for far from it; less what a trial pulls the curve towards "
    "itself.\n\n"
    "LR means off the curve: root of the F ratio of lack of fit, the mean square of the LR means about the curve over "
    "that of replicates. The exponents of the curve are not counted, so that it is small rather than large. Where the "
    "noise is itself taken from the residuals, or the weight of an outlier was reduced, there is none. Farthest "
    "trial: bound on the largest residual of a regression (Lund 1975), for all trials of the study. Means by LR: each "
    "LR of a batch size counts once, and the intervals, of the t distribution, hold for the three together. Each of "
    "these three questions raises a false alarm in about 1 of 60 studies, so that right curves pass all three in "
    "95 %.\n\n"
    "Slices whose optimum lies outside of their LRs, or cannot be told, are not here. Laws of the best LR are compared "
    "by AICc and by leaving out one batch size at a time, in the section on scaling."
)
_LEAST, _MOST = 4.0, 8.0
"""The axis of residuals ends between these; those beyond are drawn at the edge."""
_USUAL = 2.0
"""About 19 of 20 normal residuals are within two standard deviations."""
_AS_GOOD = 2.0
"""Laws whose AICc differ by less are as good as each other (Burnham and Anderson 2002)."""


@final
class FitDiagnosticsSection(AbstractSection):
    """Residuals of every slice against LR over its best LR, and the runner-up of the laws through the optima."""

    key: ClassVar[str] = "fit_diagnostics"
    title: ClassVar[str] = "Do the fits hold?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("scaling")
        if finding is None:
            return "No learning rate was swept at a batch size in this study (experiments.scaling)."
        if not finding.tables.get(BY_BATCH):
            return "No slice was fitted with its optimum inside, so that there are no residuals to look at."
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("scaling")
        assert finding is not None
        trials, batches = finding.tables[RESIDUALS], finding.tables[BY_BATCH]
        zones = [{**row, "place": PLACES[row["zone"]]} for row in finding.tables.get(BY_ZONE, ())]
        told, sentence = verdict(batches, zones)
        return Card(
            key=self.key,
            title=self.title,
            status="ok" if told else "cannot_tell",
            finding=sentence,
            facts=_rivals(finding.data.get("law"), finding.tables.get("laws") or ()),
            figures=(_figure(trials, zones, sentence),),
            tables=(
                Table(key="residuals", caption="Residuals by batch size", columns=BATCH_COLUMNS, rows=tuple(batches)),
                Table(key="zones", caption="Mean residual by LR", columns=ZONE_COLUMNS, rows=tuple(zones), open=False),
            ),
            method=METHOD,
        )


def verdict(batches: Sequence[Mapping[str, Any]], zones: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    """Return whether the study can tell if its curves are right, and what it says."""
    tested = [row for row in batches if row["misfit"] is not None]
    missed = [row for row in tested if row["misfit"] > row["misfit_chance"]]
    bounded = [row for row in batches if row["largest_chance"] is not None]
    beyond = [row for row in bounded if abs(row["largest"]) > row["largest_chance"]]
    trend = [row for row in zones if finite(row["lo"]) and finite(row["hi"]) and (row["lo"] > 0 or row["hi"] < 0)]
    failed = bool(missed or beyond or trend)
    if failed:
        start = "The fits do not hold everywhere"
    elif tested:
        where = "" if len(tested) == len(batches) else f" at {len(tested)} of {plural(len(batches), 'batch size')}"
        start = f"Nothing contradicts the fits{where}"
    else:
        start = "Whether the fits hold cannot be told"
    parts = [_shape(batches, tested, missed), _farthest(batches, bounded, beyond), _trend(zones, trend)]
    return failed or bool(tested), f"{start}: {parts[0]}. {parts[1]} {parts[2]}"


def _shape(
    batches: Sequence[Mapping[str, Any]], tested: Sequence[Mapping[str, Any]], missed: Sequence[Mapping[str, Any]]
) -> str:
    if missed:
        worst = max(missed, key=lambda row: row["misfit"] / row["misfit_chance"])
        then = "its best LR is still read" if worst["read"] else "its best LR is not used"
        many = "" if len(missed) == 1 else f"at {len(missed)} of {plural(len(batches), 'batch size')}, most "
        return (
            f"{many}at batch {count(worst['batch_size'])} mean losses lie off the curve by {_off(worst)}; what noise "
            f"does not explain is {significant(worst['miss'])} of loss, and {then}"
        )
    if tested:
        worst = max(tested, key=lambda row: row["misfit"] / row["misfit_chance"])
        return f"mean losses lie off their curves by at most {_off(worst)}"
    if any(row["noise"] == "replicates" for row in batches):
        return "weights of outliers were reduced at every batch size that has replicates"
    return (
        "with so few trials at equal LRs a wrong curve looks like noise. It takes `--set experiments.scaling.seeds=3`"
    )


def _off(row: Mapping[str, Any]) -> str:
    chance = significant(row["misfit_chance"])
    return f"{significant(row['misfit'])} times what the noise explains (chance alone: up to {chance})"


def _farthest(
    batches: Sequence[Mapping[str, Any]], bounded: Sequence[Mapping[str, Any]], beyond: Sequence[Mapping[str, Any]]
) -> str:
    trials = plural(sum(row["trials"] for row in batches), "trial")
    if not bounded:
        return f"The degrees of freedom of the noise are too few to tell whether one of {trials} stands out."
    row = max(beyond or bounded, key=lambda row: abs(row["largest"]) / row["largest_chance"])
    seed = "" if row["seed"] is None else f", seed {row['seed']}"
    off = f"{significant(abs(row['largest']))} expected deviations off"
    where = f"batch {count(row['batch_size'])}, LR {rate(row['lr'])}{seed}"
    chance = f"chance alone: up to {significant(row['largest_chance'])}"
    if not beyond:
        return f"None of {trials} stands out: the farthest is {off} ({where}; {chance})."
    others = [count(one["batch_size"]) for one in beyond if one is not row]
    more = f", and one stands out at batch {listing(others)}" if others else ""
    return f"Of {trials} one is {off} ({where}; {chance}){more}."


def _trend(zones: Sequence[Mapping[str, Any]], trend: Sequence[Mapping[str, Any]]) -> str:
    if trend:
        parts = [f"{_mean(row)} {'above' if row['mean'] > 0 else 'below'} the curve {row['place']}" for row in trend]
        return f"The curves miss a trend with the LR: trials lie on average {listing(parts)}."
    known = [row for row in zones if finite(row["lo"]) and finite(row["hi"])]
    if not known:
        return "Whether a trend with the LR is left cannot be told: it takes two batch sizes or more LRs."
    widest = max(known, key=lambda row: row["hi"] - row["lo"])
    return (
        f"No trend with the LR is seen: least certain {widest['place']}, where trials lie on average "
        f"{significant(widest['mean'])} expected deviations off ({between(widest['lo'], widest['hi'])})."
    )


def _mean(row: Mapping[str, Any]) -> str:
    lo, hi = sorted((abs(row["lo"]), abs(row["hi"])))
    return f"{significant(abs(row['mean']))} expected deviations ({between(lo, hi)})"


def _rivals(law: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]) -> tuple[Fact, ...]:
    """Return the runner-up of the laws through the optima, and the errors of both when a batch size is left out."""
    if not law or not law.get("law") or not law.get("runner_up"):
        return ()
    chosen, second, behind = str(law["law"]), str(law["runner_up"]), law.get("aicc_difference")
    name, rival = chosen.replace("_", " "), second.replace("_", " ")
    text = f"{rival} after {name}"
    if finite(behind):
        text += f", AICc {significant(behind)} higher: "
        text += "as good as each other" if behind < _AS_GOOD else "less likely"
    facts = [Fact(term="Runner-up law", value=f"{text}.")]
    left_out = {row["law"]: row.get("loo") for row in rows}
    if finite(left_out.get(chosen)) and finite(left_out.get(second)):
        errors = f"{significant(left_out[chosen])} of ln LR by {name}, {significant(left_out[second])} by {rival}"
        facts.append(Fact(term="One batch size left out", value=f"Missed by {errors}."))
    return tuple(facts)


def _figure(trials: Sequence[Mapping[str, Any]], zones: Sequence[Mapping[str, Any]], sentence: str) -> Figure:
    marks = BatchMarks.of(row["batch_size"] for row in trials)
    return Figure.single(
        "residuals",
        (Panel(draw=partial(_draw, rows=trials, zones=zones, marks=marks), wide=(700, 290), narrow=(350, 270)),),
        alt=sentence,
        caption="Residual of each trial over the standard deviation that its fit expects; about 19 of 20 should lie "
        "in the shaded band. Colour and mark are the batch size. Bars are the means below, around and above the best "
        "LR with their interval, cut at the edge. Hollow marks have a reduced weight or lie beyond it.",
        points={"residuals": [dict(row) for row in trials]},
    )


def _draw(
    canvas: Canvas, rows: Sequence[Mapping[str, Any]], zones: Sequence[Mapping[str, Any]], marks: BatchMarks
) -> None:
    axes = canvas.axes
    edge = min(max(_LEAST, *(1.15 * abs(row["standardised"]) for row in rows)), _MOST)
    span = padded([float(row["relative_lr"]) for row in rows], log=True, share=0.05)
    canvas.margins(left=46, right=14, top=26)
    canvas.scale("x", *span, log=True, label_width=38)
    canvas.scale("y", -edge, edge, log=False)
    canvas.axis_labels("LR / best LR of its batch size", "residual / expected")
    axes.axhspan(-_USUAL, _USUAL, color=color("accent"), alpha=0.07, lw=0)
    axes.axhline(0.0, color=color("axis"), lw=1, ls=(0, (3, 3)))
    ends = {"below": (span[0], 1 / AROUND), "around": (1 / AROUND, AROUND), "above": (AROUND, span[1])}
    for row in zones:
        left, right = ends[row["zone"]]
        middle = (max(left, span[0]) * min(right, span[1])) ** 0.5
        if finite(row["lo"]) and finite(row["hi"]):
            held = [min(max(row[end], -edge), edge) for end in ("lo", "hi")]
            axes.plot([middle] * 2, held, color=color("ink"), lw=1.2, zorder=5)
        axes.scatter([middle], [min(max(row["mean"], -edge), edge)], s=90, marker="_", color=color("ink"), zorder=5)
    marks.draw_key(canvas)
    for size in marks.sizes:
        role, marker = marks.of_size(size)
        for hollow in (False, True):
            own = [
                row
                for row in rows
                if row["batch_size"] == size and (row["outlier"] or abs(row["standardised"]) > edge) is hollow
            ]
            if not own:
                continue
            dots = axes.scatter(
                [row["relative_lr"] for row in own],
                [min(max(row["standardised"], -edge), edge) for row in own],
                s=20,
                marker=marker,
                facecolors="none" if hollow else color(role),
                edgecolors=color(role),
                linewidths=1 if hollow else 0,
                zorder=4,
                clip_on=False,
            )
            canvas.hover(
                dots,
                [f"batch {count(size)}, LR {rate(row['lr'])}: {significant(row['standardised'])}" for row in own],
            )
