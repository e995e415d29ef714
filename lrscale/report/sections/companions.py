"""What moves with the batch size besides the LR, and whether that helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Fact, Figure, Panel, Table
from lrscale.report.canvas import Canvas, text_width
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import count, finite, listing, percent, short, significant

COLUMNS = (
    Column(key="policy", label="companions"),
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="ratio", label="over the reference", kind="number"),
    Column(key="best_lr", label="best LR (95 %)", kind="rate", lo="lr_lo", hi="lr_hi"),
    Column(key="loss", label="loss (95 %)", kind="loss", lo="loss_lo", hi="loss_hi"),
    Column(key="difference", label="difference", kind="number", lo="difference_lo", hi="difference_hi"),
    Column(key="verdict", label="verdict"),
)
_VALUES = (("beta1", "beta1"), ("beta2", "beta2"), ("eps", "eps"), ("weight_decay", "weight decay"))
_ROLES = {"lower": "accent", "higher": "bad"}


@final
class CompanionsSection(AbstractSection):
    """Forest plot of what each further policy does to the loss, and the values of the one in use."""

    key: ClassVar[str] = "companions"
    title: ClassVar[str] = "What else should move with the batch size?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        if _data(context) is None:
            return (
                "Nothing moved with the batch size but the LR; compare policies for beta2 and weight decay with "
                "`experiments.scaling.companions: [none, half-life]`."
            )
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        data = _data(context)
        assert data is not None
        rows = [row for row in data.get("rows", ()) if isinstance(row, Mapping)]
        used, reference = str(data.get("used")), data.get("reference_batch_size")
        decisions = [str(one.get("sentence")) for one in data.get("decisions", ())]
        finding = " ".join(f"{sentence.rstrip('.')}." for sentence in decisions) or (
            f"Companions {short(used, 24)} moved in every trial from batch {count(reference)}; nothing was compared."
        )
        figures: tuple[Figure, ...] = ()
        if any(finite(row.get("difference")) for row in rows):
            height = 56 + 26 * len(rows)
            share = percent(float(rows[0].get("confidence") or 0.95))
            figures = (
                Figure.single(
                    "forest",
                    (
                        Panel(
                            draw=partial(_draw_forest, rows=rows, used=used),
                            wide=(720, height),
                            narrow=(350, height),
                        ),
                    ),
                    alt=finding,
                    caption=(
                        f"Loss at each policy's own best LR minus that under {short(used, 24)}, at equal examples and "
                        f"with paired seeds. Bars are {share} intervals, so that all of them hold together with 95 %."
                    ),
                    points={
                        f"{row.get('policy')} at {row.get('batch_size')}": [
                            row.get(key) for key in ("difference", "difference_lo", "difference_hi")
                        ]
                        for row in rows
                    },
                ),
            )
        tables = (
            (Table(key="companions", caption="Further policies", columns=COLUMNS, rows=tuple(rows)),) if rows else ()
        )
        return Card(
            key=self.key,
            title=self.title,
            finding=finding,
            status="cannot_tell" if _cannot_tell(data) else "ok",
            facts=tuple(_facts(context, data)),
            figures=figures,
            tables=tables,
            method=(
                "A policy moves settings of the optimizer from the reference batch size, at which the module's own "
                "hold; the LR is searched for under each. sde: 1 - beta grows with the batch size, eps falls with "
                "its root (Malladi et al. 2022, arXiv:2205.10287). half-life: beta2 forgets in the same number of "
                "examples (Marek et al. 2025, arXiv:2507.07101), decoupled weight decay keeps its time scale in "
                "examples (Wang and Aitchison 2024, arXiv:2405.13698). Warm-up is the same number of examples at every "
                "batch size. A policy is worth adopting where it lowers the loss at some batch "
                "size and raises it at none."
            ),
        )


def _data(context: ReportContext) -> Mapping[str, Any] | None:
    finding = context.finding("scaling")
    data = None if finding is None else finding.data.get("companions")
    return data if isinstance(data, Mapping) else None


def _cannot_tell(data: Mapping[str, Any]) -> bool:
    decisions = [one.get("decision") for one in data.get("decisions", ())]
    return bool(decisions) and all(decision == "cannot tell" for decision in decisions)


def _facts(context: ReportContext, data: Mapping[str, Any]) -> list[Fact]:
    sentences = data.get("sentences") or {}
    facts = [Fact(term=short(name, 24), value=short(text, 200)) for name, text in sentences.items()]
    chosen = context.recommended("companions")
    if not isinstance(chosen, Mapping):
        return facts
    groups = [
        ", ".join(f"{label} {group[key]:.4g}" for key, label in _VALUES if finite(group.get(key)))
        for group in chosen.get("groups", ())
    ]
    texts = list(dict.fromkeys(groups))
    value = texts[0] if len(texts) == 1 else listing([f"group {k}: {text}" for k, text in enumerate(groups)])
    size = count(context.recommended("global_batch_size"))
    return [Fact(term=f"At batch {size}", value=f"{value} ({chosen.get('policy')})", strong=True), *facts]


def _draw_forest(canvas: Canvas, rows: Sequence[Mapping[str, Any]], used: str) -> None:
    axes = canvas.axes
    names = [f"{short(row.get('policy'), 14)}, batch {count(row.get('batch_size'))}" for row in rows]
    left = 20 + round(max(text_width(name) for name in names))
    right = 14 if canvas.is_narrow else 92
    canvas.margins(left=left, right=right, top=8, bottom=42)
    values = [0.0]
    for row in rows:
        values += [float(row[key]) for key in ("difference", "difference_lo", "difference_hi") if finite(row.get(key))]
    air = 0.06 * (max(values) - min(values)) or 1.0
    canvas.scale("x", min(values) - air, max(values) + air, log=False, label_width=50)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    canvas.axis_labels(f"loss minus that under {short(used, 24)}")
    axes.axvline(0, color=color("axis"), lw=1)
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        verdict = str(row.get("verdict") or "")
        role = _ROLES.get(verdict, "muted")
        place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset pixels", "va": "center"}
        axes.annotate(name, (0, index), xytext=(-(left - 8), 0), **place)
        if not canvas.is_narrow:
            axes.annotate(verdict, (1, index), xytext=(10, 0), color=color(role), **place)
        if not finite(row.get("difference")):
            canvas.label(0, index, "no optimum inside its grid", role="muted", dx=6)
            continue
        lo, hi = row.get("difference_lo"), row.get("difference_hi")
        if finite(lo) and finite(hi) and hi > lo:
            axes.plot([lo, hi], [index, index], color=color(role), lw=2.2)
        dot = axes.scatter([row["difference"]], [index], s=34, color=color(role), zorder=3)
        canvas.hover(dot, [f"{name}: {significant(row['difference'])} ({significant(lo)} to {significant(hi)})"])
