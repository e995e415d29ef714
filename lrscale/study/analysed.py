"""The answer of an experiment, whatever its trials hold: one that cannot be computed does not cost the others."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from lrscale.errors import LrscaleError
from lrscale.study.experiments import AbstractExperiment, Context
from lrscale.study.finding import Check, Finding
from lrscale.study.lost import waits

_FAULT = "fault"
KEPT_OUT = "kept_out"
"""Entry of the finding of a question of which a budget has left nothing; in a plan, of what the budget kept out."""
LEAST = "least"
"""Entry of a plan's budget: what the cheapest forms take of the questions left out, where there are reduced ones."""


def analysed(experiment: AbstractExperiment, context: Context) -> Finding:
    """Return what the trials say, or a finding that says why that could not be computed.

    Records may be damaged, or of a version that measured something else. The trials are kept, and a later analysis
    reads them again.

    Raises
    ------
    LrscaleError
        For misuse, which the user can mend.
    """
    try:
        return experiment.analyse(context)
    except LrscaleError:
        raise
    except Exception as error:  # whatever lies in the records, the other experiments have their answers
        reason = f"{type(error).__name__}: {error}"
        return Finding(
            key=experiment.key,
            title=experiment.title,
            status="cannot_tell",
            sentence=f"The trials of this experiment could not be analysed ({reason}).",
            checks=(
                Check(
                    name=f"{experiment.title}: analysis",
                    status="FAIL",
                    sentence=f"The analysis of the trials failed: {reason}.",
                    remedy="were they made by another version? the trials are kept; run the experiment in a new study",
                ),
            ),
            data={_FAULT: traceback.format_exc()},
        )


def usable(findings: Mapping[str, Finding]) -> dict[str, Finding]:
    """Return the findings that later experiments may build on: those that were computed."""
    return {
        key: one
        for key, one in findings.items()
        if _FAULT not in one.data and KEPT_OUT not in one.data and not waits(one)
    }
