"""``lrscale check``: a launch config against what a study calibrated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lrscale.cli.guard import DONE, NO
from lrscale.cli.study_access import open_study
from lrscale.cli.text import count, wrapped
from lrscale.errors import LrscaleError

if TYPE_CHECKING:
    from lrscale.recommend.config_check import ConfigCheck


def check_launch(path: Path, configs: Sequence[Path], *, keys: Sequence[str], as_json: bool) -> int:
    """Check a launch config and print what each rule says; nothing is written.

    Parameters
    ----------
    path : Path
        Study folder.
    configs : sequence of Path
        Files of the config, later ones on top.
    keys : sequence of str
        ``NAME=KEY`` each.
    as_json : bool
        Print one JSON document instead of text.

    Returns
    -------
    int
        1 when a rule says FAIL, else 0.

    Raises
    ------
    LrscaleError
        When the study or the config cannot be read.
    """
    from lrscale.recommend.config_check import check_config

    named = {}
    for pair in keys:
        name, sign, key = pair.partition("=")
        if not (name and sign and key):
            raise LrscaleError(f"--key {pair} is not NAME=KEY", hint="write for example --key lr=model.init_args.lr")
        named[name.strip().replace("-", "_")] = key.strip()
    study = open_study(path)
    result = check_config(study.recipe, study.view, study.findings(), configs, named)
    typer.echo(json.dumps(result.to_dict(), indent=2) if as_json else text(result))
    return NO if result.status == "FAIL" else DONE


def text(result: ConfigCheck) -> str:
    """Return the judgements as lines, failures first."""
    lines = []
    for status in ("FAIL", "WARNING", "INFO", "PASS"):
        for one in result.having(status):
            lines.append(wrapped(one.sentence, indent=" " * 10, first=f"{status:<8}  "))
            if one.value is not None and status in ("FAIL", "WARNING"):
                lines.append(wrapped(f"in the config: {one.value}", indent=" " * 10))
            if one.remedy is not None and status != "PASS":
                lines.append(wrapped(f"remedy: {one.remedy}", indent=" " * 10))
    failed, warned = len(result.having("FAIL")), len(result.having("WARNING"))
    passed = len(result.having("PASS"))
    verdict = f"{count(failed, 'failure')}, {count(warned, 'warning')}, {passed} passed"
    return "\n".join([*lines, "", f"{result.source} against {result.study}: {verdict}"])
