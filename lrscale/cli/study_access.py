"""A study folder as ``report``, ``recommend`` and ``status`` open it: the folder and nothing else is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from lrscale.errors import RecipeError, StudyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lrscale.recipe import Recipe
    from lrscale.store import StudyFolder, StudyView
    from lrscale.study.finding import Finding


@final
@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study that was begun, read from its folder."""

    recipe: Recipe
    folder: StudyFolder
    view: StudyView
    config_note: str | None = None
    """Why the trials cannot be found by the recipe any more; None when they can."""

    @classmethod
    def of(cls, recipe: Recipe, folder: StudyFolder) -> OpenStudy:
        """Read the finished trials of a folder whose recipe is known."""
        from lrscale.store import StudyView

        return cls(recipe, folder, StudyView.of(folder))

    def findings(self) -> tuple[Finding, ...]:
        """Return what the finished trials say; no trial is run, and torch is not loaded.

        They are analysed anew. Where the config file of the task is gone or changed, trials can no longer be told by
        it, and the findings of the last run are returned.
        """
        from lrscale.study import Study, read_findings

        if self.config_note is not None:
            return read_findings(self.folder)
        return Study(self.recipe, self.folder).analyse(self.view)


def open_study(path: Path) -> OpenStudy:
    """Read a study folder, whoever made it.

    Raises
    ------
    StudyError
        When there is no study, or one that this version cannot read.
    """
    from lrscale.store import StudyFolder, StudyView

    if not path.is_dir():
        raise StudyError(f"there is no study folder {path}", hint="start one: lrscale run RECIPE --study DIR")
    folder = StudyFolder(path)
    plan = folder.read_plan()
    recipe, note = _recipe_of(plan)
    return OpenStudy(recipe, folder, StudyView.of(folder), note)


def _recipe_of(plan: Mapping[str, Any]) -> tuple[Recipe, str | None]:
    from pydantic import ValidationError

    from lrscale.recipe import Recipe
    from lrscale.recipe.sentences import problems_of

    resolved = dict(plan["recipe"])
    task = dict(resolved["task"])
    digest = task.pop("config_sha256", None)
    try:
        recipe = Recipe.model_validate({**resolved, "task": task})
    except ValidationError as error:
        raise StudyError(
            f"the recipe in plan.json cannot be used: {problems_of(error)[0].message}",
            hint="a newer lrscale has written it, or a hand changed it",
        ) from error
    recipe = recipe.placed(root=Path(plan.get("root", ".")), text="", source="plan.json", lines={})
    if digest is None:
        return recipe, None
    try:
        same = recipe.task.resolved(recipe.root)["config_sha256"] == digest
    except RecipeError:
        return recipe, f"{task['config']}, which the task names, is not here"
    return recipe, None if same else f"{task['config']}, which the task names, has changed since the study ran"
