"""What was run, where, with which versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Fact, Snippet
from lrscale.report.context import ReportContext
from lrscale.report.words import count, duration, finite, listing, plural, short

_MOST_FACTS = 40


@final
class ProvenanceSection(AbstractSection):
    """Recipe, versions, hardware, seeds and time."""

    key: ClassVar[str] = "provenance"
    title: ClassVar[str] = "What was run, and where"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        if not context.trials and not context.plan and context.recipe_text is None:
            return "The study folder holds neither a plan nor a trial yet."
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        import lrscale

        seeds = sorted({trial.spec.seed for trial in context.trials})
        facts = [Fact(term="Report made with", value=f"lrscale {lrscale.__version__}")]
        if context.plan.get("code"):
            facts.append(Fact(term="Code", value=short(context.plan["code"], 120), detail=_other_code(context)))
        if context.trials:
            facts += [
                Fact(
                    term="Trials",
                    value=f"{len(context.trials)} finished of {context.begun or len(context.trials)} begun",
                ),
                Fact(
                    term="Time",
                    value=f"{duration(context.seconds)} of trials, {duration(context.device_seconds)} of devices",
                ),
                Fact(
                    term="Energy",
                    value="not measured",
                    detail="Trials read no energy counter of their devices, and none is estimated from the time.",
                ),
                Fact(
                    term="Examples",
                    value=f"{count(sum(trial.record.examples for trial in context.trials))} seen in training",
                ),
                Fact(term="Seeds", value=_seeds(seeds)),
            ]
        environments = context.environments
        if environments:
            plain = {key: value for key, value in environments[0].items() if key not in ("versions", "world_size")}
            versions = environments[0].get("versions")
            plain = {**(versions if isinstance(versions, Mapping) else {}), **plain}
            facts += [Fact(term=short(k, 40), value=short(v, 300)) for k, v in _flat(plain)[:_MOST_FACTS]]
        notes = []
        if len(environments) > 1:
            notes.append(
                f"Trials ran in {len(environments)} different environments; the most common one is shown. "
                f"They differ in {listing(_differing(environments))}."
            )
        module = next((trial.record.facts for trial in context.trials if trial.record.facts), {})
        facts += [Fact(term=short(k, 40), value=short(v, 300)) for k, v in _flat(module)[:_MOST_FACTS]]
        return Card(
            key=self.key,
            title=self.title,
            finding=_sentence(context),
            facts=tuple(facts),
            notes=(*notes, *context.problems),
            snippets=tuple(_snippets(context)),
        )


def _sentence(context: ReportContext) -> str:
    if not context.trials:
        return "The study has a plan, and no finished trial yet."
    return (
        f"{plural(len(context.trials), 'trial')} in {duration(context.seconds)}, "
        f"{duration(context.device_seconds)} of device time."
    )


def _other_code(context: ReportContext) -> str:
    """Return that earlier trials may be of other code, where the state has changed since the study began."""
    changes = [one for one in context.plan.get("decisions") or () if isinstance(one, Mapping) and "code" in one]
    return "It has changed since the study began; when, is below." if changes else ""


def _seeds(seeds: list[int]) -> str:
    if len(seeds) > 12:
        return f"{len(seeds)} seeds from {seeds[0]} to {seeds[-1]}"
    return ", ".join(str(seed) for seed in seeds)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{name} ")
        elif isinstance(value, (list, tuple)):
            pairs.append((name, ", ".join(short(_words(item), 80) for item in value[:12]) or "none"))
        elif value is not None:
            pairs.append((name, f"{value:.6g}" if finite(value) and isinstance(value, float) else str(value)))
    return pairs


def _words(value: Any) -> str:
    """Return a mapping as its names and values; anything else as it is written."""
    return " ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, Mapping) else str(value)


def _differing(environments: tuple[Mapping[str, Any], ...]) -> list[str]:
    flat = [dict(_flat(environment)) for environment in environments]
    keys = dict.fromkeys(key for environment in flat for key in environment)
    return [short(key, 40) for key in keys if len({environment.get(key) for environment in flat}) > 1][:8]


def _snippets(context: ReportContext) -> list[Snippet]:
    import yaml

    snippets = []
    if context.recipe_text:
        snippets.append(Snippet(label="Recipe, as given", text=context.recipe_text))
    if context.recipe:
        text = yaml.safe_dump(dict(context.recipe), sort_keys=False, allow_unicode=True, width=100)
        snippets.append(Snippet(label="Recipe, resolved with its defaults", text=text))
    decisions = context.plan.get("decisions")
    if decisions:
        snippets.append(Snippet(label="What was decided when", text="\n".join(_decision(one) for one in decisions)))
    return snippets


def _decision(decision: Any) -> str:
    if not isinstance(decision, Mapping):
        return str(decision)
    parts = []
    for key, value in decision.items():
        if key == "trials" and isinstance(value, list):
            parts.append(plural(len(value), "trial"))
        elif key == "kept_out" and isinstance(value, list):
            parts.append(f"{plural(len(value), 'trial')} kept out by the budget")
        else:
            parts.append("; ".join(str(item) for item in value) if isinstance(value, list) else str(value))
    return ": ".join(parts)
