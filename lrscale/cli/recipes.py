"""``lrscale recipes``: what comes with the package."""

from __future__ import annotations

import typer

from lrscale.cli.guard import DONE
from lrscale.cli.text import table
from lrscale.errors import RecipeError, did_you_mean
from lrscale.recipe import builtin_recipes


def show_recipes(name: str | None) -> int:
    """List the built-in recipes, or print one as it stands in its file.

    Raises
    ------
    RecipeError
        When no built-in recipe has that name.
    """
    known = builtin_recipes()
    if name is None:
        typer.echo(table(["recipe", "what it is"], [[recipe.name, recipe.description] for recipe in known.values()]))
        typer.echo("\nPrint one to start from: lrscale recipes NAME > recipe.yaml")
        return DONE
    if name not in known:
        raise RecipeError(f"no built-in recipe is called {name}", hint=did_you_mean(name, known))
    typer.echo(known[name].path.read_text(encoding="utf-8"), nl=False)
    return DONE
