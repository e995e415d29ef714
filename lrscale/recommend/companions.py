"""What a recommendation says of the settings that move with the batch size besides the LR."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.companions import COMPANIONS, GroupSettings
from lrscale.store import StudyView, Trial
from lrscale.study.finding import Finding

VALUES = ("beta1", "beta2", "eps", "weight_decay")
"""Settings that a policy may move."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionValues:
    """Settings of one parameter group; None for what its optimizer does not have."""

    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    weight_decay: float | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendedCompanions:
    """The policy that the trials followed, and its values at the recommended batch size.

    Examples
    --------
    >>> one = RecommendedCompanions(policy="half-life", reference_batch_size=64, groups=(CompanionValues(beta2=0.9),))
    >>> one.settings_of(0, {"betas": (0.9, 0.95), "eps": 1e-8}, "AdamW")
    {'betas': (0.9, 0.9)}
    """

    policy: str
    """A name in `lrscale.companions.COMPANIONS`."""
    reference_batch_size: int
    """Global batch size at which the module's own settings hold."""
    groups: tuple[CompanionValues, ...]
    """Of every parameter group of every optimizer, in their order."""

    def settings_of(self, place: int, group: Mapping[str, Any], optimizer: str) -> dict[str, Any]:
        """Return what to set in a parameter group of a job; nothing where it has the values already.

        Parameters
        ----------
        place : int
            Number of the group over all optimizers, counted from 0.
        group : mapping
            One of ``optimizer.param_groups``.
        optimizer : str
            Class name of the optimizer.
        """
        own = GroupSettings.of(group, optimizer)
        wanted = {
            name: value
            for name in VALUES
            if (value := getattr(self.groups[place], name)) is not None and getattr(own, name) is not None
        }
        return own.changes(dataclasses.replace(own, **wanted), group)


def recommended_companions(
    findings: Sequence[Finding], view: StudyView, batch_size: int
) -> tuple[RecommendedCompanions | None, tuple[str, ...]]:
    """Return the companions of the setting, and sentences about them; None where only the LR moves.

    Parameters
    ----------
    findings : sequence of Finding
        What the recommendation stands on.
    view : StudyView
        The finished trials, whose records say what the module's own settings are.
    batch_size : int
        Recommended global batch size.
    """
    scaling = next((finding for finding in findings if finding.key == "scaling"), None)
    data = None if scaling is None else scaling.data.get("companions")
    if scaling is None or data is None:
        return None, ()
    reasons = [str(one["sentence"]) for one in data["decisions"] if one["decision"] in ("adopt", "mixed")]
    used, reference = str(data["used"]), int(data["reference_batch_size"])
    if used == "none":
        return None, tuple(reasons)
    trial = _own_settings(scaling, view)
    if trial is None:
        reasons.append("The records do not say what settings the module has, so the companions have no values.")
        return None, tuple(reasons)
    groups = []
    for own in trial.record.facts["group_settings"]:
        moved = COMPANIONS[used].move(GroupSettings(**own), batch_size / reference)
        groups.append(CompanionValues(**{name: getattr(moved.settings, name) for name in VALUES}))
        reasons += [f"{warning[:1].upper()}{warning[1:]}." for warning in moved.warnings]
    made = RecommendedCompanions(policy=used, reference_batch_size=reference, groups=tuple(groups))
    values = companion_words(made)
    reasons.insert(
        0,
        f"Companions {used} were used in every trial; from batch {reference:,} to {batch_size:,} they give {values}.",
    )
    return made, tuple(dict.fromkeys(reasons))


def companion_words(companions: RecommendedCompanions) -> str:
    """Return the values as text, each group's where groups differ.

    Examples
    --------
    >>> values = CompanionValues(beta1=0.9, beta2=0.8145, weight_decay=0.4)
    >>> companion_words(RecommendedCompanions(policy="half-life", reference_batch_size=64, groups=(values, values)))
    'beta1 0.9, beta2 0.8145, weight decay 0.4'
    """
    texts = dict.fromkeys(_values_text(values) for values in companions.groups)
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"group {place}: {_values_text(values)}" for place, values in enumerate(companions.groups))


def _values_text(values: CompanionValues) -> str:
    known = [(name.replace("_", " "), getattr(values, name)) for name in VALUES]
    return ", ".join(f"{name} {value:.6g}" for name, value in known if value is not None) or "no change"


def _own_settings(finding: Finding, view: StudyView) -> Trial | None:
    found = (view.trials[trial_id] for trial_id in finding.trial_ids if trial_id in view.trials)
    return next((trial for trial in found if trial.record.facts.get("group_settings")), None)
