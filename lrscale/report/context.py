"""Everything that a section may read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from lrscale.report.palette import LRScale
from lrscale.report.words import finite, short

if TYPE_CHECKING:
    from lrscale.store.logged import LoggedTo
    from lrscale.store.study_folder import StudyFolder
    from lrscale.store.trajectory import Trajectory
    from lrscale.store.view import StudyView, Trial
    from lrscale.study.finding import Finding, Quantity


@final
@dataclass(frozen=True)
class ReportContext:
    """A study as the report sees it. Nothing here trains, fits or writes.

    Parameters
    ----------
    plan : mapping
        plan.json; empty when the study has none yet.
    view : StudyView
        The finished trials.
    findings : tuple of Finding
        What the experiments found, in their order.
    recommendation : mapping or None
        The recommendation as JSON values, or None when there is none.
    refusal : str or None
        Why there is no recommendation, as a sentence.
    exports : tuple of (str, str)
        The recommendation in the forms in which jobs and people take it: a label and the text.
    recipe_text : str or None
        recipe.yaml as it was given.
    begun : int
        Trials that have a folder, finished or not.
    problems : tuple of str
        What could not be read, as sentences.
    logged : tuple of LoggedTo
        What the loggers of the recipe have got; empty where it names none.
    """

    plan: Mapping[str, Any]
    view: StudyView
    findings: tuple[Finding, ...] = ()
    recommendation: Mapping[str, Any] | None = None
    refusal: str | None = None
    exports: tuple[tuple[str, str], ...] = ()
    recipe_text: str | None = None
    begun: int = 0
    problems: tuple[str, ...] = ()
    logged: tuple[LoggedTo, ...] = ()
    _trajectories: dict[str, Trajectory] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        folder: StudyFolder,
        *,
        view: StudyView,
        findings: Iterable[Finding] = (),
        recommendation: Any = None,
    ) -> ReportContext:
        """Read what the report needs besides the trials.

        Parameters
        ----------
        folder : StudyFolder
        view : StudyView
        findings : iterable of Finding, optional
            Default: none.
        recommendation : Recommendation, Refusal, mapping or None, optional
            Anything with ``to_dict``, a mapping, or a refusal with a ``sentence``. Default None.
        """
        from lrscale.store.logged import logger_key, read_logged

        plan = folder.read_plan() if folder.exists() else {}
        logged = read_logged(folder.path)
        # A logger that the recipe names no more is not missed.
        named = [logger_key(entry) for entry in (plan.get("recipe") or {}).get("logger") or ()]
        recipe_path = folder.path / "recipe.yaml"
        recipe_text = recipe_path.read_text(encoding="utf-8", errors="replace") if recipe_path.exists() else None
        chosen, refusal = _as_mapping(recommendation)
        return cls(
            plan=plan,
            view=view,
            findings=tuple(findings),
            recommendation=chosen,
            refusal=refusal,
            exports=_exports(recommendation),
            recipe_text=recipe_text,
            begun=len(folder.trial_ids()),
            logged=tuple(logged[key] for key in named if key in logged),
        )

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """The resolved recipe, or an empty mapping."""
        recipe = self.plan.get("recipe")
        return recipe if isinstance(recipe, Mapping) else {}

    @cached_property
    def name(self) -> str:
        """Name of the study, on one line."""
        for source in (self.recipe, self.plan, self.recommendation or {}):
            if source.get("name"):
                return short(source["name"], 80)
        return "study"

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """The finished trials."""
        return tuple(self.view)

    @cached_property
    def monitor(self) -> str:
        """Name of the monitored loss."""
        names = Counter(trial.record.monitor for trial in self.trials if trial.record.monitor)
        return short(names.most_common(1)[0][0], 32) if names else "loss"

    @cached_property
    def lr_scale(self) -> LRScale:
        """Colours of the peak LRs of all trials but ramps, whose LR is not one number."""
        return LRScale.of(trial.spec.peak_lr for trial in self.trials if trial.spec.schedule.name != "ramp")

    @cached_property
    def experiment_of(self) -> Mapping[str, str]:
        """Trial id to the experiment that asked for it first, as far as the findings say."""
        owners: dict[str, str] = {}
        for finding in self.findings:
            for trial_id in finding.trial_ids:
                owners.setdefault(trial_id, finding.key)
        for trial in self.trials:
            if trial.trial_id not in owners:
                guess = "throughput" if trial.spec.layout is not None else "trials"
                guess = "memory" if "memory" in trial.spec.instruments else guess
                guess = "equivalence" if "layout_probe" in trial.spec.instruments else guess
                owners[trial.trial_id] = "range_test" if trial.spec.schedule.name == "ramp" else guess
        return owners

    @cached_property
    def seconds(self) -> float:
        """Time of all trials together, in seconds."""
        return math.fsum(_total(trial) for trial in self.trials)

    @cached_property
    def device_seconds(self) -> float:
        """Time of all trials times the devices that each used, in seconds."""
        return math.fsum(
            _total(trial) * (trial.record.layout.world_size if trial.record.layout else 1) for trial in self.trials
        )

    @cached_property
    def environments(self) -> tuple[Mapping[str, Any], ...]:
        """The distinct environments of the trials, the most common first."""
        seen: dict[str, tuple[int, Mapping[str, Any]]] = {}
        for trial in self.trials:
            if trial.record.environment:
                text = repr(
                    sorted(
                        (str(k), str(v))
                        for k, v in trial.record.environment.items()
                        if k not in ("world_size", "threads")
                    )
                )
                held = seen.get(text, (0, trial.record.environment))
                seen[text] = (held[0] + 1, held[1])
        return tuple(environment for _, environment in sorted(seen.values(), key=lambda pair: -pair[0]))

    def finding(self, key: str) -> Finding | None:
        """Return the finding of an experiment, or None."""
        return next((finding for finding in self.findings if finding.key == key), None)

    def quantity(self, key: str, name: str) -> Quantity | None:
        """Return a number of a finding, or None."""
        finding = self.finding(key)
        return None if finding is None else finding.numbers.get(name)

    def recommended(self, key: str, default: Any = None) -> Any:
        """Return a field of the recommendation, or `default` when there is none."""
        return default if self.recommendation is None else self.recommendation.get(key, default)

    def trajectory(self, trial_id: str) -> Trajectory:
        """Return a trial's trajectory, read once; an unreadable one is empty."""
        from lrscale.store.trajectory import Trajectory

        if trial_id not in self._trajectories:
            try:
                self._trajectories[trial_id] = self.view.load_trajectory(trial_id)
            except (OSError, ValueError):  # a damaged file costs its line in the figure, not the report
                self._trajectories[trial_id] = Trajectory()
        return self._trajectories[trial_id]

    def trials_where(self, rule: Callable[[Trial], bool]) -> tuple[Trial, ...]:
        """Return the finished trials that a rule selects."""
        return tuple(trial for trial in self.trials if rule(trial))


def _total(trial: Trial) -> float:
    total = trial.record.timing.get("total")
    return float(total) if finite(total) else 0.0


def _exports(recommendation: Any) -> tuple[tuple[str, str], ...]:
    forms = (
        ("LightningCLI fragment", "lightning_cli_fragment"),
        ("Training loop", "loop_snippet"),
        ("Markdown summary", "markdown"),
    )
    return tuple((label, getattr(recommendation, name)()) for label, name in forms if hasattr(recommendation, name))


def _as_mapping(recommendation: Any) -> tuple[Mapping[str, Any] | None, str | None]:
    if recommendation is None:
        return None, None
    if isinstance(recommendation, Mapping):
        return recommendation, None
    if hasattr(recommendation, "to_dict"):
        return recommendation.to_dict(), None
    parts = (getattr(recommendation, name, "") for name in ("sentence", "needs"))
    return None, " ".join(part for part in parts if part) or str(recommendation)
