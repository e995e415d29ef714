"""The first screen: what to train with, what to expect, how sure that is, what to watch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.recipe import Price
from lrscale.report.base import AbstractSection, Card, Fact, Figure, LegendEntry, Panel, Snippet
from lrscale.report.context import ReportContext
from lrscale.report.fits import pair
from lrscale.report.sections.optimal_lr import COMPETING, anchor_of, measured_optima
from lrscale.report.sections.search import search_map
from lrscale.report.sections.slices import scaling_slices
from lrscale.report.slice_plot import RuleMark, SliceData, SliceLimits, draw_slice
from lrscale.report.words import (
    between,
    count,
    duration,
    finite,
    listing,
    loss_between,
    percent,
    plural,
    rate,
    short,
    with_interval,
)
from lrscale.schedules import SCHEDULER, schedule_label

CONFIDENCE = {
    "measured": "measured at this batch size",
    "interpolated": "interpolated between measured batch sizes",
    "extrapolated": "extrapolated beyond what was measured",
    "cannot tell": "cannot tell",
}
DEFAULT_TOLERANCE = 0.001
"""Relative loss within which LRs count as equal, when the recipe does not say."""


@final
class HeadlineSection(AbstractSection):
    """The recommendation in words, and one figure that carries it."""

    key: ClassVar[str] = "recommendation"
    title: ClassVar[str] = "Recommendation"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        del context
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        if context.recommendation is None:
            return _without(context, self.key, self.title)
        chosen = context.recommendation
        lr = _quantity(chosen.get("lr"))
        return Card(
            key=self.key,
            title=self.title,
            finding=_sentence(chosen, lr),
            status="cannot_tell" if chosen.get("confidence") == "cannot tell" else "ok",
            facts=tuple(_facts(context, chosen)),
            figures=_figure(context, chosen, lr),
            snippets=tuple(_snippets(context, chosen)),
        )


def _without(context: ReportContext, key: str, title: str) -> Card:
    sentence = context.refusal
    if sentence is None:
        missing = [finding.title for finding in context.findings if finding.status != "ok"]
        if not context.trials:
            sentence = "There is no recommendation yet: no trial has finished. Run the study: `lrscale run`."
        elif missing:
            sentence = f"There is no recommendation yet: {listing(missing)} gave no answer."
        else:
            sentence = (
                "There is no recommendation yet: it needs the scaling experiment. Run the study again to complete it."
            )
    facts = tuple(Fact(term=short(finding.title, 60), value=finding.sentence) for finding in context.findings)
    return Card(
        key=key,
        title=title,
        finding=sentence,
        status="cannot_tell",
        facts=facts,
        figures=_figure(context, {}, (None,) * 3),
    )


def _sentence(chosen: Mapping[str, Any], lr: tuple[float | None, float | None, float | None]) -> str:
    value, lo, hi = lr
    said = with_interval(value, lo, hi).replace("(", "(95 % ", 1)
    schedule = _schedule_name(chosen.get("schedule") or {}, "its schedule")
    return (
        f"Train with peak LR {said} at global batch {count(chosen.get('global_batch_size'))} "
        f"under the {schedule} schedule."
    )


def _facts(context: ReportContext, chosen: Mapping[str, Any]) -> list[Fact]:
    facts = [
        Fact(term="Train with", value=train_with(chosen), detail=_equivalence(context, chosen), strong=True),
        Fact(term="Expect", value=_expect(context, chosen), detail=_spent(context, chosen)),
        Fact(
            term="How sure", value=_sure(chosen), detail=" ".join(str(reason) for reason in chosen.get("reasons") or ())
        ),
    ]
    watch = _watch(context, chosen)
    if watch:
        facts.append(Fact(term="Watch", value=watch[0], detail=" ".join(watch[1:])))
    return facts


def _schedule_name(schedule: Mapping[str, Any], otherwise: str) -> str:
    if schedule.get("name") == SCHEDULER:
        return short(schedule_label(SCHEDULER, schedule.get("settings") or {}), 60)
    return short(schedule.get("name") or otherwise, 40)


def train_with(chosen: Mapping[str, Any]) -> str:
    """Return the recommended settings on one line."""
    schedule = chosen.get("schedule") or {}
    name = _schedule_name(schedule, "schedule")
    settings = schedule.get("settings") or {}
    if settings and schedule.get("name") != SCHEDULER:
        name += f" ({', '.join(f'{short(k, 24)} {short(v, 24)}' for k, v in settings.items())})"
    if schedule.get("warmup_steps"):
        name += f", {plural(int(schedule['warmup_steps']), 'step')} of warm-up"
    per_device, devices, nodes = (chosen.get(k) for k in ("per_device_batch_size", "devices", "num_nodes"))
    layout = f"{count(per_device)} per device"
    if (chosen.get("accumulate_grad_batches") or 1) > 1:
        layout += f" x {count(chosen['accumulate_grad_batches'])} accumulation"
    layout += f" x {plural(int(devices or 1), 'device')}"
    if (nodes or 1) > 1:
        layout += f" x {plural(int(nodes or 1), 'node')}"
    # Without its interval, in the notation that it has with it.
    lr = with_interval(*_quantity(chosen.get("lr"))).partition(" (")[0]
    dot = " \N{MIDDLE DOT} "
    return dot.join((f"peak LR {lr}", f"batch {count(chosen.get('global_batch_size'))}", name, layout))


def _equivalence(context: ReportContext, chosen: Mapping[str, Any]) -> str:
    lo, hi = pair(chosen.get("equivalent_lr"))
    target = context.recipe.get("target")
    tolerance = target.get("tolerance") if isinstance(target, Mapping) else None
    parts = []
    # One LR of a ladder is no range.
    if lo is not None and hi is not None and lo < hi:
        cost = _margin(context, chosen.get("global_batch_size")) or (
            tolerance if finite(tolerance) else DEFAULT_TOLERANCE
        )
        parts.append(f"Anything from {between(lo, hi)} costs at most {percent(cost)} of the loss.")
    for other in (chosen.get("alternatives") or ())[:2]:
        parts.append(_alternative(other))
    return " ".join(parts)


def _margin(context: ReportContext, batch_size: Any) -> float | None:
    """Return the share of the loss within which LRs count as equal at a measured batch size, or None."""
    finding = context.finding("scaling")
    for cell in finding.data.get("cells", ()) if finding else ():
        fit = cell.get("slice") or {}
        margin, lowest = fit.get("equivalence_margin"), fit.get("min_loss")
        if cell.get("batch_size") == batch_size and finite(margin) and finite(lowest) and lowest:
            return float(margin) / abs(float(lowest))
    return None


def _alternative(other: Mapping[str, Any]) -> str:
    words = f"Batch {count(other.get('batch_size'))} at LR {rate(other.get('lr'))}"
    effects = []
    if finite(other.get("relative_loss")):
        effects.append(f"{percent(float(other['relative_loss']), signed=True)} loss")
    if finite(other.get("relative_seconds")):
        effects.append(f"{percent(float(other['relative_seconds']), signed=True)} time")
    return f"{words}: {', '.join(effects)}." if effects else f"{words} is the alternative."


def _expect(context: ReportContext, chosen: Mapping[str, Any]) -> str:
    value, lo, hi = _quantity(chosen.get("expected_loss"))
    said = "not forecast beyond the measured horizon" if value is None else loss_between(value, lo, hi)
    text = f"{short(chosen.get('monitor') or context.monitor, 32)} {said}"
    if finite(chosen.get("horizon_examples")):
        text += f" at {count(chosen['horizon_examples'])} examples"
    if finite(chosen.get("horizon_steps")):
        text += f" ({count(chosen['horizon_steps'])} steps)"
    seconds, first, last = _quantity(chosen.get("expected_seconds"))
    if seconds is not None:
        text += f", in {duration(seconds)}"
        if first is not None and last is not None:
            text += f" ({duration(first)} to {duration(last)})"
    return text


def _spent(context: ReportContext, chosen: Mapping[str, Any]) -> str:
    """Return what the job takes of devices, and of money where the recipe has a price."""
    seconds, first, last = _quantity(chosen.get("expected_seconds"))
    devices = int(chosen.get("devices") or 1) * int(chosen.get("num_nodes") or 1)
    price = (context.recipe.get("cost") or {}).get("price")
    if seconds is None or (devices == 1 and not price):
        return ""
    said = f"{duration(devices * seconds)} of devices"
    if not price:
        return f"{said[:1].upper()}{said[1:]}."
    tariff = Price.parse(str(price))
    said += f", {tariff.of(devices * seconds / 3600)}"
    if first is not None and last is not None:
        said += f" ({tariff.of(devices * first / 3600)} to {tariff.of(devices * last / 3600)})"
    return f"{said} at {tariff} a device-hour."


def _sure(chosen: Mapping[str, Any]) -> str:
    stands_on = chosen.get("stands_on") or {}
    said = CONFIDENCE.get(str(chosen.get("confidence")), short(chosen.get("confidence") or "not stated", 40))
    text = said[:1].upper() + said[1:]
    if finite(stands_on.get("trials")):
        text += f", on {plural(int(stands_on['trials']), 'trial')}"
        if finite(stands_on.get("seeds")):
            text += f" and {plural(int(stands_on['seeds']), 'seed')}"
    return f"{text}."


def _watch(context: ReportContext, chosen: Mapping[str, Any]) -> list[str]:
    lines = []
    validity = chosen.get("validity") or {}
    found = validity.get("diverges_above")
    if finite(found):
        above = float(found)
        size = chosen.get("global_batch_size")
        tried = context.trials_where(
            lambda trial: (
                trial.spec.global_batch_size == size
                and trial.spec.peak_lr >= above * (1 - 1e-9)
                and trial.spec.schedule.name != "ramp"
            )
        )
        lost = sum(trial.record.status == "diverged" for trial in tried)
        tail = f" ({lost} of {plural(len(tried), 'trial')} there)" if tried else ""
        lines.append(f"LR {rate(above)} and above diverges{tail}.")
    lo, hi = pair(validity.get("batch_sizes"))
    if lo is not None and hi is not None:
        where = f"batch {count(lo)} to {count(hi)}" if hi > lo else f"batch {count(lo)}"
        lines.append(
            f"Measured for {where} and {count(validity.get('horizon_examples'))} examples; beyond that it is a "
            "forecast."
        )
    serious = [check for finding in context.findings for check in finding.checks if check.status in ("FAIL", "WARNING")]
    if serious:
        lines.append(f"{plural(len(serious), 'check')} of the experiments warn or fail; see Checks.")
    return lines


def _figure(
    context: ReportContext, chosen: Mapping[str, Any], lr: tuple[float | None, float | None, float | None]
) -> tuple[Figure, ...]:
    finding = context.finding("scaling")
    slices = scaling_slices(context)
    cells = finding.data.get("cells", ()) if finding else ()
    wanted = chosen.get("global_batch_size") or (finding.data.get("best_batch_size") if finding else None)
    if not slices:
        searched = context.finding("search")
        if searched is None or searched.status != "ok":
            return ()
        return (search_map(searched, wide=(520, 300)),)
    index = min(
        range(len(cells)),
        key=lambda k: abs(math.log(cells[k]["batch_size"] / wanted)) if finite(wanted) else k,
    )
    data, size = slices[index], cells[index]["batch_size"]
    limits = SliceLimits.of([data])
    if limits is None:
        return ()
    same = size == wanted or not finite(wanted)
    where = f"batch {count(size)}" if same else f"batch {count(size)}, the nearest measured batch size"
    monitor = short((finding.data.get("monitor") if finding else None) or context.monitor, 32)
    start, rules = _rules(finding.data if finding else {}, size)
    return (
        Figure.single(
            "slice",
            (
                Panel(
                    draw=partial(
                        draw_slice,
                        data=data,
                        limits=limits,
                        monitor=monitor,
                        chosen=lr if same and lr[0] else None,
                        rules=rules,
                    ),
                    wide=(520, 300),
                    narrow=(350, 270),
                    title=f"Loss against LR at {where}",
                ),
            ),
            alt=(
                f"At {where} the fitted slice is lowest at LR {with_interval(*lr)}."
                if lr[0]
                else f"Loss against LR at {where}, with every trial."
            ),
            caption="Dots: trials; crosses on the upper edge: diverged. Line: fitted slice with its 95 % band. "
            "Shaded: 95 % interval of the LR. Bar below: LRs that count as equally good."
            + (" Dashed: LRs that scaling rules name, and what they cost by the fitted slice (95 %)." if rules else ""),
            legend=tuple(LegendEntry(mark=rule.role, label=_rule_words(rule, start, data)) for rule in rules),
            points={"batch_size": size, "lr": list(lr), "rules": {rule.name: rule.lr for rule in rules}},
        ),
    )


def _rules(data: Mapping[str, Any], size: float) -> tuple[float, tuple[RuleMark, ...]]:
    """Return the smallest batch size with an optimum, and the LRs that rules name at `size` from there.

    None at that batch size itself, from which all of them start.
    """
    rows = [row for row in measured_optima(data) if finite(row["best_lr"])]
    if not rows or rows[0]["batch_size"] == size:
        return size, ()
    anchor = anchor_of(rows)
    start, best = float(anchor["batch_size"]), float(anchor["best_lr"])
    return start, tuple(
        RuleMark(name, best * (size / start) ** exponent, role, dashes=(5, 3) if exponent else (2, 2))
        for name, exponent, role, _ in COMPETING
    )


def _rule_words(rule: RuleMark, start: float, data: SliceData) -> str:
    """Return the LR that a rule names, and what the fitted slice says that it costs."""
    from lrscale.laws import LRSliceFit

    text = f"{rule.name} from batch {count(start)}: LR {rate(rule.lr)}"
    lowest = data.fit.get("min_loss")
    if data.curve is None or not finite(lowest) or not lowest:
        return text
    if not data.curve.x[0] <= rule.lr <= data.curve.x[-1]:
        return f"{text}, outside of the LRs tried"
    cost, lo, hi = (float(value[0]) / abs(lowest) for value in LRSliceFit.from_dict(data.fit).regret([rule.lr]))
    return f"{text}, {percent(cost, signed=True)} loss ({percent(lo)} to {percent(hi)})"


def _snippets(context: ReportContext, chosen: Mapping[str, Any]) -> list[Snippet]:
    import yaml

    text = yaml.safe_dump(_plain(chosen), sort_keys=False, allow_unicode=True, width=100)
    exports = (Snippet(label=label, text=form) for label, form in context.exports)
    return [Snippet(label="recommendation.yaml", text=text), *exports]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _quantity(value: Any) -> tuple[float | None, float | None, float | None]:
    if isinstance(value, Mapping):
        parts = [value.get(key) for key in ("value", "lo", "hi")]
    else:
        parts = [value, None, None]
    number, lo, hi = (float(part) if finite(part) else None for part in parts)
    return number, lo, hi
