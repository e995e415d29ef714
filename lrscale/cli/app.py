"""The commands and their options. What a command does lies in the module that it imports when it runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from lrscale import __version__
from lrscale.cli.fit_command import ReportOption, fit
from lrscale.cli.guard import GuardedGroup
from lrscale.cli.options import (
    AddressOption,
    BudgetOption,
    DevicesOption,
    LauncherOption,
    NodesOption,
    OpenOption,
    RecipeArgument,
    SetOption,
    StudyArgument,
    StudyOption,
)
from lrscale.cli.request import StudyRequest

# Plain help and plain errors: rich would double the time of `lrscale --help` and draw boxes that log files garble.
app = typer.Typer(
    cls=GuardedGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lrscale {__version__}")
        raise typer.Exit


@app.callback()
def lrscale(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Find the learning rate, batch size, schedule and layout for a PyTorch Lightning job before the expensive run.

    Start with: lrscale run digits
    """


@app.command("run")
def run(
    recipe: RecipeArgument,
    study: StudyOption = None,
    devices: DevicesOption = None,
    num_nodes: NodesOption = None,
    launcher: LauncherOption = None,
    address: AddressOption = None,
    budget: BudgetOption = None,
    overrides: SetOption = None,
) -> None:
    """Run what is missing, then write report and recommendation.

    Interrupted or killed, the same command goes on where it was. With a budget no trial starts that cannot be expected
    to end within it; what earlier runs spent counts, and what is kept out is said.
    """
    from lrscale.cli.run import run_study
    from lrscale.cli.worker_group import in_worker_group

    more = {"budget": budget, "address": address}
    request = _request("run", recipe, study, devices, num_nodes, launcher, overrides, **more)
    _end(in_worker_group(request, run_study))


@app.command("plan")
def plan(
    recipe: RecipeArgument,
    study: StudyOption = None,
    devices: DevicesOption = None,
    num_nodes: NodesOption = None,
    budget: BudgetOption = None,
    price: Annotated[
        str | None,
        typer.Option("--price", metavar="PRICE", help='Price of a device-hour, 2.5 or "2.5 EUR"; sets cost.price.'),
    ] = None,
    throughput: Annotated[
        str | None,
        typer.Option(
            "--throughput",
            metavar="SPEED",
            help='Speed until trials have measured one: "3000 examples/s"; sets cost.throughput.',
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="First run a few short trials that tell the time of the others.")
    ] = False,
    overrides: SetOption = None,
) -> None:
    """Show what run would spend: trials, examples, time, money.

    With a budget also which questions it answers, which it reduces and which it leaves out.
    """
    from lrscale.cli.plan import show_plan

    request = _request(
        "plan", recipe, study, devices, num_nodes, None, overrides, budget=budget, price=price, throughput=throughput
    )
    _end(show_plan(request, measure=measure))


def _add_experiment(command: str, help_: str) -> None:
    @app.command(command, help=help_)
    def experiment(
        recipe: RecipeArgument,
        study: StudyOption = None,
        devices: DevicesOption = None,
        num_nodes: NodesOption = None,
        launcher: LauncherOption = None,
        address: AddressOption = None,
        overrides: SetOption = None,
        open_: OpenOption = False,
    ) -> None:
        from lrscale.cli.run import run_alone
        from lrscale.cli.worker_group import in_worker_group

        request = _request(command, recipe, study, devices, num_nodes, launcher, overrides, address=address)
        _end(in_worker_group(request, partial(run_alone, open_in_browser=open_)))


_add_experiment("range-test", "Ramp the learning rate until training diverges, and confirm one by short runs.")
_add_experiment("schedules", "Compare schedules at an equal number of examples.")
_add_experiment("scaling", "Find the best learning rate at each batch size.")
_add_experiment("search", "Find the best learning rate and batch size from few trials.")
_add_experiment("forecast", "Find the best settings of small models and short runs, for the target.")
_add_experiment("factors", "Find how the best learning rate moves with other entries of the task.")
_add_experiment("horizons", "Find the best learning rate and the loss at several lengths of training.")
_add_experiment("growing-batch", "Compare a batch that grows with a learning rate that decays.")
_add_experiment("critical-batch", "Measure by branches up to which batch size examples are not wasted.")
_add_experiment("noise-scale", "Measure the gradient noise scale along training.")
_add_experiment("throughput", "Measure examples per second for each layout.")
_add_experiment("memory", "Find the largest batch that trains and validates on a device.")


app.command("fit")(fit)


@app.command("report")
def report(
    study: StudyArgument,
    open_: OpenOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it as Markdown, for a pull request.")] = False,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Also write the figures, as SVG and PNG.")
    ] = None,
    tables: Annotated[
        Path | None, typer.Option("--tables", metavar="DIR", help="Also write the tables, as CSV and Parquet.")
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option("--watch", metavar="SECONDS", help="Write it again as trials end, until the study has ended."),
    ] = None,
) -> None:
    """Write the report of a study anew."""
    from lrscale.cli.report import make_report, watch_report

    if watch is not None:
        _end(watch_report(study, every=watch, open_in_browser=open_))
    _end(make_report(study, open_in_browser=open_, markdown=markdown, figures=figures, tables=tables))


@app.command("recommend")
def recommend(
    study: StudyArgument,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="B", min=1, help="Global batch size. Default: the recipe's target."),
    ] = None,
    horizon: Annotated[
        str | None,
        typer.Option("--horizon", metavar="T", help='Length, such as "50M examples". Default: the recipe\'s target.'),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="text|yaml|markdown|cli", help="cli: a LightningCLI config.")
    ] = "text",
    params: Annotated[
        str | None,
        typer.Option("--params", metavar="N", help="Parameters of a larger model: forecast from smaller cells."),
    ] = None,
    unit: Annotated[
        str | None, typer.Option("--unit", metavar="UNIT", help="Of a bare --horizon: examples or tokens.")
    ] = None,
    tokens_per_example: Annotated[
        float | None,
        typer.Option("--tokens-per-example", metavar="N", help="Default: what the batches of the task showed."),
    ] = None,
) -> None:
    """Print the setting for a target, with its interval.

    With --params it is a forecast for a model of that size, from the cells of experiments.forecast. The exit code is 1
    when the trials cannot tell; what it would take is printed.
    """
    if params is not None:
        from lrscale.cli.forecast import print_forecast

        _end(
            print_forecast(
                study,
                params=params,
                horizon=horizon,
                unit=unit,
                tokens_per_example=tokens_per_example,
                batch_size=batch_size,
                format_name=format_,
            )
        )
    from lrscale.cli.recommend import print_recommendation

    length = f"{horizon} {unit}" if horizon is not None and unit is not None else horizon
    _end(print_recommendation(study, batch_size=batch_size, horizon=length, format_name=format_))


@app.command("check")
def check(
    study: StudyArgument,
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG...", help="Files of the launch config, later ones on top.")
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="NAME=KEY", help="Where the config says it: lr=model.init_args.peak. Repeatable."
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a launch config against what a study calibrated.

    CONFIG is a LightningCLI config, or plain YAML with keys such as lr, batch_size, devices, max_steps. Names for
    --key: lr, batch_size (per device), global_batch_size, accumulate, devices, num_nodes, horizon, warmup, schedule.
    The exit code is 1 when a rule fails.
    """
    from lrscale.cli.check import check_launch

    _end(check_launch(study, configs, keys=key or (), as_json=json_))


@app.command("compare")
def compare(
    study: StudyArgument,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="Study folder to compare it with.")],
    report: ReportOption = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request or a chat.")] = False,
    margin: Annotated[
        float | None,
        typer.Option("--margin", metavar="M", help="Relative loss that does not matter. Default: the recipes' own."),
    ] = None,
) -> None:
    """Show what differs between two studies, with intervals, and what does not.

    Ratios are OTHER over STUDY. The exit code is 1 when they measured nothing in common.
    """
    from lrscale.cli.compare import compare_paths

    _end(compare_paths(study, other, margin=margin, markdown=markdown, report=report))


@app.command("index")
def index(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds study folders, or reports.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Page to write. Default: index.html in DIR.")
    ] = None,
    open_: OpenOption = False,
) -> None:
    """Write a page that lists the studies of a folder, or the reports of some, with their answers."""
    from lrscale.cli.index import write_index

    _end(write_index(folder, out=out, open_in_browser=open_))


@app.command("status")
def status(study: StudyArgument) -> None:
    """Show what is done, running, lost and missing."""
    from lrscale.cli.status import show_status

    _end(show_status(study))


@app.command("worker", hidden=True)
def worker(
    study: StudyArgument,
    idle: Annotated[
        float, typer.Option("--idle", metavar="SECONDS", help="Wait so long for a trial before leaving.")
    ] = 120.0,
) -> None:
    """Run trials that a driver asks for in a study folder; jobs of the launcher slurm call this."""
    from lrscale.launch.slurm import serve

    _end(serve(study, idle=idle))


@app.command("recipes")
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this built-in recipe.")] = None,
) -> None:
    """List the built-in recipes, or print one to start from."""
    from lrscale.cli.recipes import show_recipes

    _end(show_recipes(name))


@app.command("init")
def init(
    model: Annotated[str, typer.Argument(metavar="CLASS_PATH", help="LightningModule, as package.module.Class.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="CLASS_PATH", help="LightningDataModule, as package.module.Class.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Recipe to write. Default: recipe.yaml.")
    ] = None,
) -> None:
    """Write a commented recipe for your own module.

    The module is built once, to find out about its arguments, optimizers, learning rate and losses.
    """
    from lrscale.cli.init import write_recipe

    _end(write_recipe(model, data=data, output=output if output is not None else Path("recipe.yaml")))


@app.command("doctor")
def doctor(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Also check that the task of this recipe can be built.")
    ] = None,
    launch: Annotated[
        bool, typer.Option("--launch", help="Train a few steps by every launcher that can be started from here.")
    ] = False,
    search: Annotated[
        bool, typer.Option("--search", help="Try every scheduler and algorithm that a search may use, on a toy.")
    ] = False,
) -> None:
    """Check the environment and, if given, a recipe.

    With --launch below torchrun or srun, the ranks that were given are tried. The exit code is 1 when something fails;
    what to do about it is printed.
    """
    if launch:
        from lrscale.cli.doctor_launch import examine_launchers

        _end(examine_launchers())
    if search:
        from lrscale.cli.doctor import show
        from lrscale.cli.doctor_search import search_checks

        _end(show(search_checks()))
    from lrscale.cli.doctor import examine

    _end(examine(recipe))


def _request(
    command: str,
    recipe: str,
    study: Path | None,
    devices: int | None,
    num_nodes: int | None,
    launcher: str | None,
    overrides: list[str] | None,
    *,
    budget: str | None = None,
    price: str | None = None,
    throughput: str | None = None,
    address: str | None = None,
) -> StudyRequest:
    return StudyRequest(
        command=command,
        recipe=recipe,
        study=study,
        devices=devices,
        num_nodes=num_nodes,
        launcher=launcher,
        overrides=tuple(overrides or ()),
        budget=budget,
        price=price,
        throughput=throughput,
        address=address,
    )


def _end(code: int) -> NoReturn:
    raise typer.Exit(code)
