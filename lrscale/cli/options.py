"""The options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Recipe file, or the name of a built-in one (see: lrscale recipes).")
]
StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="Study folder.")]
StudyOption = Annotated[
    Path | None,
    typer.Option("--study", metavar="DIR", help="Study folder. Default: <name of the recipe>-study, here."),
]
DevicesOption = Annotated[
    int | None, typer.Option("--devices", metavar="N", min=1, help="Devices per node; sets layout.devices.")
]
NodesOption = Annotated[
    int | None, typer.Option("--num-nodes", metavar="N", min=1, help="Nodes; sets layout.num_nodes.")
]
LauncherOption = Annotated[
    str | None,
    typer.Option(
        "--launcher", metavar="NAME", help="Where trials run. Default: the ranks of torchrun or srun, else local."
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Address of a Ray cluster, for --launcher ray; auto: one that runs here. Default: RAY_ADDRESS, else a new "
        "one.",
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="AMOUNT",
        help='What the study may spend in all its runs: 30m, 2h, "1e6 examples" or "20 trials"; sets cost.budget.',
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a field of the recipe, such as experiments.scaling.seeds=5. Repeatable."
    ),
]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the report in the browser.")]
