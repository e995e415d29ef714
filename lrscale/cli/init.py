"""``lrscale init``: a recipe for the user's own module, with what was found out about it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from lrscale.cli.guard import DONE
from lrscale.cli.recipe_template import Discovery, render
from lrscale.cli.source_signature import SourceSignature, read_logged_names, read_signature
from lrscale.cli.text import count, number, wrapped
from lrscale.errors import LrscaleError, TaskError
from lrscale.recipe import parse_recipe
from lrscale.store.files import to_json, write_atomically

INSPECT_MODULE = "lrscale.training.inspect"
TIMEOUT = 600
"""Seconds for building the module once; a data module that downloads its data takes minutes."""
_CLASS_PATH = re.compile(r"^[^\W\d]\w*(\.[^\W\d]\w*)+$")


def write_recipe(model: str, *, data: str | None, output: Path) -> int:
    """Inspect a module and write a recipe for it.

    A module that cannot be built, usually because arguments are missing, gets a recipe all the same, with the reason.

    Parameters
    ----------
    model, data : str
        Dotted paths of the classes; a module file in the current folder counts. `data` may be None.
    output : Path
        The file to write; one that exists is never touched.

    Raises
    ------
    LrscaleError
        When the file exists, a path is not one of a class, or there is no such class.
    """
    model = _class_path(model, "CLASS_PATH")
    data = None if data is None else _class_path(data, "--data")
    if output.exists():
        raise LrscaleError(f"{output} exists and is not overwritten", hint="choose another file with -o FILE")
    if not output.parent.is_dir():
        raise LrscaleError(f"there is no folder {output.parent}", hint="make it first, or choose another -o FILE")
    here = Path.cwd()
    signatures = {path: read_signature(path, [here]) for path in (model, data) if path is not None}
    missing = {path: missing_arguments(signature) for path, signature in signatures.items()}
    task = {"model": {"class_path": model}, **({} if data is None else {"data": {"class_path": data}})}
    facts: Mapping[str, Any] = {}
    warnings: list[str] = []
    problem = None
    if any(missing.values()):
        problem = "; ".join(f"{path} needs {', '.join(names)}" for path, names in missing.items() if names)
    else:
        typer.echo(f"building {model} once to see what it is ...", err=True)
        try:
            facts, warnings = inspect_task(task, here)
        except TaskError as error:
            if signatures[model] is None:
                # Neither its source nor the import knows the class: a recipe would only repeat the mistake.
                raise
            problem = str(error)
    import_path = os.path.relpath(here, output.parent.resolve())
    found = Discovery(
        model=model,
        data=data,
        model_signature=signatures[model],
        data_signature=None if data is None else signatures[data],
        import_path=None if import_path == "." else import_path,
        facts=[*describe_facts(facts), *warnings],
        problem=problem,
        logged=read_logged_names(model, [here]),
        batch_size_home=facts.get("batch_size_home"),
        own_batch_size=facts.get("own_batch_size"),
        training_examples=facts.get("training_examples"),
    )
    text = render(found)
    # What init writes must load; a name that breaks YAML or the schema should be seen here and not at the first run.
    parse_recipe(text, root=output.parent, source=output.name)
    write_atomically(output, text)
    typer.echo(f"wrote {output}")
    for sentence in found.facts:
        typer.echo(wrapped(sentence, indent="    ", first="  - "))
    if problem is not None:
        typer.echo(wrapped(f"It could not be built yet: {problem}.", indent="  ", first="  "))
        remedy = f"Fill in init_args in {output}" if any(missing.values()) else "Put that right"
        typer.echo(f"{remedy}, then: lrscale doctor {output}")
    else:
        typer.echo(f"Next: lrscale plan {output}")
    return DONE


def inspect_task(task: Mapping[str, Any], root: Path) -> tuple[dict[str, Any], list[str]]:
    """Build a task in a process of its own, train nothing, and return facts and warnings.

    Raises
    ------
    TaskError
        When the task cannot be built, with the reason that the process gave.
    """
    with tempfile.TemporaryDirectory(prefix="lrscale-init-") as folder:
        job = Path(folder) / "job.json"
        job.write_text(to_json({"task": dict(task), "root": str(root)}), encoding="utf-8")
        try:
            ended = subprocess.run(
                [sys.executable, "-m", INSPECT_MODULE, str(job)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as error:
            raise TaskError(f"building the task took more than {TIMEOUT} s") from error
    answer = last_json_line(ended.stdout)
    if answer is None:
        tail = ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}, no message"]
        raise TaskError(f"the task cannot be built: {tail[0]}")
    if "error" in answer:
        raise TaskError(answer["error"]["message"], hint=answer["error"].get("hint"))
    return dict(answer.get("facts") or {}), [str(sentence) for sentence in answer.get("warnings") or []]


def last_json_line(text: str) -> dict[str, Any] | None:
    r"""Return the last line of an output when it is a JSON object; whatever the module printed comes before it.

    Examples
    --------
    >>> last_json_line('loading data ...\n{"facts": {}}\n')
    {'facts': {}}
    >>> last_json_line("Killed") is None
    True
    """
    lines = text.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def missing_arguments(signature: SourceSignature | None) -> list[str]:
    """Return the arguments without a default, the batch size left out because every trial sets it."""
    if signature is None:
        return []
    return [one.name for one in signature.arguments if one.default is None and one.name != "batch_size"]


def describe_facts(facts: Mapping[str, Any]) -> list[str]:
    """Return what building a task showed, a sentence each."""
    sentences = []
    parameters, examples = facts.get("parameters"), facts.get("training_examples")
    if parameters is not None:
        sentences.append(count(int(parameters), "parameter"))
    if facts.get("optimizers"):
        names, rates = ", ".join(facts["optimizers"]), [number(rate) for rate in facts.get("group_lrs") or []]
        groups = f"; LR of its {count(len(rates), 'parameter group')}: {', '.join(rates)}" if rates else ""
        sentences.append(f"optimizer {names}{groups}")
    if facts.get("own_schedulers"):
        sentences.append(f"its own {', '.join(facts['own_schedulers'])} is replaced while calibrating")
    if facts.get("automatic_optimization") is False:
        sentences.append("it optimizes manually")
    if examples is not None:
        sentences.append(count(int(examples), "training example"))
    elif facts.get("data_source"):
        sentences.append("the number of training examples is not known")
    if facts.get("has_validation") is False:
        sentences.append("it has no validation data")
    if facts.get("batch_size_home"):
        sentences.append(f"the per-device batch size is set at {facts['batch_size_home']}")
    return sentences


def _class_path(text: str, where: str) -> str:
    path = text.replace(":", ".")
    if path.endswith(".py") or "/" in path:
        module = Path(text.partition(":")[0]).with_suffix("").as_posix().strip("./").replace("/", ".")
        raise LrscaleError(
            f"{where} {text} is a file, and a class is needed", hint=f"write its module and class: {module}.CLASS"
        )
    if not _CLASS_PATH.match(path):
        raise LrscaleError(f"{where} {text} is not a class with its module", hint="write package.module.Class")
    return path
