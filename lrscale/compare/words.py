"""A comparison in sentences and as Markdown."""

from __future__ import annotations

from lrscale.compare.compare import StudyComparison
from lrscale.compare.contrast import Contrast, Kind
from lrscale.compare.subjects.schedules import verdicts
from lrscale.recommend import Recommendation
from lrscale.recommend.words import percent, rate
from lrscale.study.finding import Quantity


def value_text(number: Quantity, kind: Kind) -> str:
    """Return a number with its interval.

    Examples
    --------
    >>> value_text(Quantity(value=0.0021, lo=0.0016, hi=0.0028), "rate")
    '2.1e-3 (1.6e-3 to 2.8e-3)'
    >>> value_text(Quantity(value=None), "loss")
    'not known'
    """
    if number.value is None:
        return "not known"
    if number.lo is None and number.hi is None:
        return _plain(number.value, kind)
    lo, hi = ("unknown" if end is None else _plain(end, kind) for end in (number.lo, number.hi))
    return f"{_plain(number.value, kind)} ({lo} to {hi})"


def effect_text(one: Contrast) -> str:
    """Return the effect with its interval, for example ``4.2 x (95 % 3.1 to 5.6)``."""
    effect = one.effect
    if effect.value is None:
        return "cannot tell"
    share = f"{100 * effect.confidence:g} %"
    if one.scale == "ratio":
        lo, hi = ("unknown" if end is None else f"{end:.3g}" for end in (effect.lo, effect.hi))
        return f"{effect.value:.3g} x ({share} {lo} to {hi})"
    if one.kind == "loss":
        value, low, high = one.relative
        lo, hi = ("unknown" if end is None else percent(end) for end in (low, high))
        return f"{'unknown' if value is None else percent(value)} ({share} {lo} to {hi})"
    write = percent if one.kind == "share" else "{:+.2g}".format
    lo, hi = ("unknown" if end is None else write(end) for end in (effect.lo, effect.hi))
    return f"{write(effect.value)} ({share} {lo} to {hi})"


def margin_text(one: Contrast) -> str:
    """Return the margin of a contrast."""
    if one.margin is None:
        return "-"
    if one.scale == "ratio":
        return f"{one.margin:.3g} x"
    base = abs(one.a.value or 0.0)
    if one.kind == "share":
        return percent(one.margin).removeprefix("+")
    return percent(one.margin / base).removeprefix("+") if one.kind == "loss" and base else f"{one.margin:.2g}"


def contrast_sentence(one: Contrast, a: str, b: str) -> str:
    """Return a contrast as a sentence, with its numbers and its interval."""
    values = f"{a} {value_text(one.a, one.kind)}, {b} {value_text(one.b, one.kind)}"
    name = f"{one.name[:1].upper()}{one.name[1:]}"
    if one.standing == "differs":
        return f"{name}: {b} is {_direction(one)} {a}, {effect_text(one)}: {values}{_noted(one)}."
    if one.standing == "same":
        return f"{name}: the same within {margin_text(one)}, {effect_text(one)}: {values}{_noted(one)}."
    told = "" if one.effect.value is None else f", {effect_text(one)}"
    return f"{name}: cannot tell{told}: {values}{_noted(one)}."


def headline(comparison: StudyComparison) -> str:
    """Return the comparison in one sentence."""
    counts = {standing: len(comparison.having(standing)) for standing in ("differs", "same", "cannot tell")}
    if not comparison.contrasts:
        return f"{comparison.a.label} and {comparison.b.label} measured nothing in common."
    first = f"Of {len(comparison.contrasts)} numbers that {comparison.a.label} and {comparison.b.label} both measured, "
    return (
        f"{first}{counts['differs']} differ, {counts['same']} {'is' if counts['same'] == 1 else 'are'} the same within "
        f"the margin, and {counts['cannot tell']} cannot be told apart."
    )


def recommended(side_answer: object) -> str:
    """Return what a study recommends, in a line."""
    if not isinstance(side_answer, Recommendation):
        return f"nothing: {getattr(side_answer, 'sentence', side_answer)}"
    one = side_answer
    return (
        f"peak LR {rate(one.peak_lr)}, batch {one.global_batch_size:,}, {one.schedule.name}, "
        f"{one.monitor} {'not measured' if one.expected_loss.value is None else f'{one.expected_loss.value:.4g}'}"
    )


def markdown(comparison: StudyComparison) -> str:
    """Return the comparison for a pull request or a chat."""
    a, b = comparison.a.label, comparison.b.label
    lines = [f"**{a}** against **{b}**: {headline(comparison)}", ""]
    lines += [f"> {caveat}" for caveat in comparison.setup.caveats]
    lines += ["", f"| | {a} | {b} | {b} against {a} | margin | |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {one.name} | {value_text(one.a, one.kind)} | {value_text(one.b, one.kind)} | {effect_text(one)} | "
        f"{margin_text(one)} | {f'**{one.standing}**' if one.standing == 'differs' else one.standing} |"
        for one in comparison.contrasts
    ]
    lines += [f"| recommended | {recommended(comparison.a.answer)} | {recommended(comparison.b.answer)} | | | |"]
    told = verdicts(comparison.a), verdicts(comparison.b)
    if any(told):
        lines += [f"| schedules | {told[0] or '-'} | {told[1] or '-'} | | | |"]
    lines += ["", "Set differently:", ""]
    rows = (*comparison.setup.different, *comparison.setup.measured)
    lines += [f"- `{one.name}`: {one.a} / {one.b}" for one in rows] or ["- nothing"]
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in comparison.absent)]).rstrip("\n") + "\n"


def _plain(value: float, kind: Kind) -> str:
    if kind == "rate":
        return rate(value)
    if kind == "share":
        return percent(value)
    if kind == "count":
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:.4g}" if kind == "loss" else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _direction(one: Contrast) -> str:
    value = one.effect.value or 0.0
    return "above" if (value > 1 if one.scale == "ratio" else value > 0) else "below"


def _noted(one: Contrast) -> str:
    return f" ({one.note})" if one.note else ""
