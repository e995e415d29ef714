"""The layout check as a line of ``lrscale doctor``: a few short trials in a folder that goes again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lrscale.cli.doctor_checks import Check
from lrscale.errors import LrscaleError

if TYPE_CHECKING:
    from lrscale.recipe import Recipe

NAME = "layout"
EXPERIMENT = "equivalence"


def check_layouts(recipe: Recipe) -> Check:
    """Train a few steps of one batch in every way to form it, and say whether gradients and losses agree.

    Parameters
    ----------
    recipe : Recipe
        Its task and layout; the check runs whether or not the recipe asks for it.

    Returns
    -------
    Check
        FAIL where a run on several devices is not what it is taken for, or cannot be run; WARNING where the layout
        changes the answer.
    """
    from lrscale.cli.run import launch_settings
    from lrscale.launch import LAUNCHERS, SilentProgress
    from lrscale.recipe.experiments import Equivalence
    from lrscale.store import StudyFolder
    from lrscale.study import Study

    experiments = recipe.experiments
    asked = experiments.model_copy(update={EXPERIMENT: experiments.equivalence or Equivalence()})
    recipe = recipe.model_copy(update={"experiments": asked})
    try:
        with tempfile.TemporaryDirectory(prefix="lrscale-doctor-") as scratch:
            study = Study(recipe, StudyFolder(Path(scratch) / "study"))
            with LAUNCHERS["local"](launch_settings(recipe)) as launcher:
                outcome = study.run(launcher, experiments=[EXPERIMENT], progress=SilentProgress())
    except LrscaleError as error:
        # The hint of a failed trial names its logs, which are gone with the folder.
        hint = None if "logs are in" in (error.hint or "") else error.hint
        return Check(name=NAME, status="FAIL", sentence=error.message, remedy=hint)
    (found,) = outcome.findings[0].checks
    return Check(name=NAME, status=found.status, sentence=found.sentence, remedy=found.remedy)
