from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import typer

from lrscale.cli.app import app

RECIPE_OPTIONS = ["RECIPE", "--study", "--devices", "--num-nodes", "--launcher", "--address", "--set"]
AMOUNTS = ["--budget", "--price", "--throughput"]
ALONE_OPTIONS = [*RECIPE_OPTIONS, "--open"]
OPTIONS = {
    "run": [*RECIPE_OPTIONS[:-1], "--budget", "--set"],
    "plan": ["RECIPE", "--study", "--devices", "--num-nodes", *AMOUNTS, "--measure", "--set"],
    "range-test": ALONE_OPTIONS,
    "schedules": ALONE_OPTIONS,
    "scaling": ALONE_OPTIONS,
    "forecast": ALONE_OPTIONS,
    "search": ALONE_OPTIONS,
    "factors": ALONE_OPTIONS,
    "horizons": ALONE_OPTIONS,
    "growing-batch": ALONE_OPTIONS,
    "critical-batch": ALONE_OPTIONS,
    "noise-scale": ALONE_OPTIONS,
    "throughput": ALONE_OPTIONS,
    "memory": ALONE_OPTIONS,
    "fit": [
        *("TABLE|STUDY", "--kind"),
        *("--lr", "--batch", "--loss", "--seed", "--status", "--params", "--tokens", "--examples", "--steps"),
        *("--schedule", "--task", "--steps-to-target", "--target", "--reference-batch", "--run", "--step"),
        *("--by", "--batch-unit", "--drop-bad", "--report", "--out", "--holdout"),
        *("--confidence", "--tolerance"),
    ],
    "report": ["STUDY", "--open", "--markdown", "--figures", "--tables", "--watch"],
    "recommend": ["STUDY", "--batch-size", "--horizon", "--format", "--params", "--unit", "--tokens-per-example"],
    "check": ["STUDY", "CONFIG...", "--key", "--json"],
    "compare": ["STUDY", "OTHER", "--report", "--markdown", "--margin"],
    "index": ["DIR", "--out", "--open"],
    "status": ["STUDY"],
    "worker": ["STUDY", "--idle"],
    "recipes": ["[NAME]"],
    "init": ["CLASS_PATH", "--data", "--output"],
    "doctor": ["[RECIPE]", "--launch", "--search"],
}
"""The whole command line. A new knob belongs in the recipe; an option is added here only on purpose."""


def group() -> Any:
    return typer.main.get_command(app)


def names_of(command: Any) -> list[str]:
    return [
        parameter.metavar if parameter.param_type_name == "argument" else parameter.opts[0]
        for parameter in command.params
        if parameter.opts[0] != "--help"
    ]


def test_the_commands_and_their_options_are_these() -> None:
    assert {name: names_of(command) for name, command in group().commands.items()} == OPTIONS
    assert names_of(group()) == ["--version"]


def test_every_command_and_option_has_a_help_text_in_ascii() -> None:
    for name, command in group().commands.items():
        assert command.help, name
        assert inspect.cleandoc(command.help).isascii()
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.help, (name, parameter.name)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from lrscale.cli.app import app\n"
        "try: app(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'pytorch_lightning', 'numpy', 'pandas', 'rich', 'matplotlib'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "--study DIR" in ended.stdout
