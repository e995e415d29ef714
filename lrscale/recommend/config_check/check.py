"""A launch config, checked against a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.recipe import Recipe
from lrscale.recommend.config_check.calibration import Calibration
from lrscale.recommend.config_check.read import read_launch_config
from lrscale.recommend.config_check.rules import RULES, Judgement
from lrscale.recommend.recommendation import Refusal
from lrscale.store import StudyView
from lrscale.study.finding import CheckStatus, Finding

CONFIG_CHECK_VERSION = 1
"""Schema version of what `ConfigCheck.to_dict` gives."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigCheck:
    """What a study says about a launch config."""

    study: str
    """Name of the study."""
    source: str
    """The files of the config."""
    judgements: tuple[Judgement, ...]
    """One for each rule whose question arose."""

    @property
    def status(self) -> CheckStatus:
        """The worst of them: FAIL, WARNING, or PASS."""
        seen = {one.status for one in self.judgements}
        worst: tuple[CheckStatus, ...] = ("FAIL", "WARNING")
        return next((status for status in worst if status in seen), "PASS")

    def having(self, status: CheckStatus) -> tuple[Judgement, ...]:
        """Return the judgements of one status."""
        return tuple(one for one in self.judgements if one.status == status)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "schema_version": CONFIG_CHECK_VERSION,
            "study": self.study,
            "source": self.source,
            "status": self.status,
            "judgements": [dataclasses.asdict(one) for one in self.judgements],
        }


def check_config(
    recipe: Recipe,
    view: StudyView,
    findings: Sequence[Finding],
    paths: Sequence[str | Path],
    keys: Mapping[str, str] | None = None,
) -> ConfigCheck:
    """Check a launch config against what a study calibrated.

    Parameters
    ----------
    recipe : Recipe
    view : StudyView
    findings : sequence of Finding
        Of the study.
    paths : sequence of str or Path
        The config's files, later ones on top: LightningCLI configs or plain keys. Nothing in them is imported.
    keys : mapping or None, optional
        Dotted keys of ``lr``, ``batch_size``, ``warmup`` and ``schedule``. Default: where the recipe's task says that
        they live, else searched for by name.

    Returns
    -------
    ConfigCheck

    Raises
    ------
    LrscaleError
        When the config cannot be read, or says two things about one value.
    """
    config = read_launch_config([Path(path) for path in paths], {**_own_keys(recipe, paths), **(keys or {})})
    calibration = Calibration.of(recipe, view, findings, config)
    judged = [rule.judge(calibration) for rule in RULES.values()]
    found = [one for one in judged if one is not None]
    if isinstance(calibration.usual, Refusal) and calibration.setting is None:
        found.insert(0, _nothing_calibrated(calibration.usual))
    return ConfigCheck(study=recipe.name, source=config.source, judgements=tuple(found))


def _nothing_calibrated(refusal: Refusal) -> Judgement:
    return Judgement(rule="calibrated", status="FAIL", value=None, sentence=refusal.sentence, remedy=refusal.needs)


def _own_keys(recipe: Recipe, paths: Sequence[str | Path]) -> dict[str, str]:
    """Return the keys that the recipe names, as far as the config has them."""
    from lrscale.errors import LrscaleError
    from lrscale.recommend.config_check.merge import read_merged
    from lrscale.recommend.config_check.search import value_at

    task = recipe.task
    named = {
        "lr": task.lr if isinstance(task.lr, str) or task.lr is None else task.lr[0],
        "batch_size": task.batch_size,
    }
    config = read_merged([Path(path) for path in paths])
    found = {}
    for name, key in named.items():
        try:
            if key is not None and value_at(config, key) is not None:
                found[name] = key
        except LrscaleError:
            continue
    return found
