"""From a YAML file, or the name of a built-in recipe, to a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lrscale.errors import RecipeError, nearest
from lrscale.recipe.builtin import builtin_recipes
from lrscale.recipe.checks import cross_problems
from lrscale.recipe.lines import Document, read_yaml
from lrscale.recipe.overrides import apply_overrides
from lrscale.recipe.problems import EntryPath, Problem, as_error, spelled
from lrscale.recipe.schema import Recipe
from lrscale.recipe.sentences import problems_of

_LONG: EntryPath = ("experiments", "schedules", "schedules")


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Parameters
    ----------
    source : str or Path
        Path of a YAML file, or the name of a built-in recipe. A file of that name goes first.
    overrides : sequence of str, optional
        Entries to set otherwise, each ``a.b=c`` with a YAML value. Default: none.

    Returns
    -------
    Recipe

    Raises
    ------
    RecipeError
        With every problem at once, each with its field, line and remedy.

    Examples
    --------
    >>> recipe = load_recipe("digits", ["experiments.scaling.seeds=5"])
    >>> recipe.name, recipe.experiments.scaling.seeds
    ('digits', 5)
    """
    path = find_recipe(source)
    return parse_recipe(_read_text(path), root=path.resolve().parent, source=path.name, overrides=overrides)


def parse_recipe(
    text: str, *, root: Path | None = None, source: str = "recipe.yaml", overrides: Sequence[str] = ()
) -> Recipe:
    """Validate the text of a recipe.

    Parameters
    ----------
    text : str
        YAML.
    root : Path or None, optional
        Folder that class paths and files are relative to. Default: the working folder.
    source : str, optional
        What the recipe is called in messages. Default ``"recipe.yaml"``.
    overrides : sequence of str, optional
        As for `load_recipe`.

    Raises
    ------
    RecipeError
        With every problem at once.
    """
    root = Path() if root is None else root
    document = read_yaml(text)
    if document.value is None and document.problems:
        raise as_error(source, document.problems)
    if document.value is None and not overrides:
        raise RecipeError(f"{source} is empty", hint="write one: lrscale init")
    if document.value is not None and not isinstance(document.value, dict):
        kind = "a list" if isinstance(document.value, list) else "a single value"
        raise RecipeError(
            f"{source} is {kind}, and a recipe is a mapping", hint="begin with a line such as name: my-study"
        )
    value, sources, refused = apply_overrides(document.value, overrides)
    found: list[Problem] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        found += problems_of(error)
    found += [*cross_problems(value), *_missing_files(value, root)]
    # An entry that could not be read at all needs no second complaint about what it was taken for.
    unread = {problem.path for problem in document.problems if problem.path}
    found = [problem for problem in found if problem.path not in unread]
    placed = [_placed(problem, document, sources) for problem in found]
    problems = [*document.problems, *refused, *placed]
    if problems or recipe is None:
        raise as_error(source, problems)
    return recipe.placed(root=root, text=text, source=source, lines=document.lines)


def find_recipe(source: str | Path) -> Path:
    """Return the file of a recipe, given its path or the name of a built-in one.

    Raises
    ------
    RecipeError
        When there is neither, with the nearest name and all built-in ones.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    known = builtin_recipes()
    if str(source) in known:
        return known[str(source)].path
    listed = f"built-in recipes: {', '.join(known)}"
    if path.is_dir():
        raise RecipeError(f"{source} is a folder, not a recipe", hint=f"name a YAML file in it; {listed}")
    beside = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    close = nearest(path.stem, known) or nearest(path.name, beside)
    hint = f"did you mean {close}? ({listed})" if close else listed
    raise RecipeError(f"no recipe {source}: there is no such file, and no built-in recipe of that name", hint=hint)


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path.name} is not text (byte {error.start})", hint="write YAML as UTF-8") from error
    if "\0" in text:
        raise RecipeError(f"{path.name} is a binary file", hint="write YAML as UTF-8")
    return text


def _placed(problem: Problem, document: Document, sources: Mapping[EntryPath, str]) -> Problem:
    around = [path for path in sources if problem.path[: len(path)] == path]
    inside = [path for path in sources if path[: len(problem.path)] == problem.path]
    problem, lines = _as_given(problem, document.value), document.lines
    line = next((lines[path] for path in _upwards(problem.path) if path in lines), None)
    message = problem.message
    source = sources[around[-1]] if around else None
    if inside and source is None:
        # The override set a part of the entry: it made the entry, or the file and the override do not go together.
        if problem.path in lines or not problem.path:
            message = f"{message} (with {sources[inside[-1]]})"
        else:
            source = sources[inside[-1]]
    return Problem(message, line=line, path=problem.path, hint=problem.hint, source=source)


def _as_given(problem: Problem, value: Any) -> Problem:
    # `schedules: [a, b]` is written out as {schedules: [a, b]} before it is validated; messages speak of the file.
    experiments = value.get("experiments") if isinstance(value, dict) else None
    written = experiments.get("schedules") if isinstance(experiments, dict) else None
    if not isinstance(written, list) or problem.path[: len(_LONG)] != _LONG:
        return problem
    path = (*_LONG[:-1], *problem.path[len(_LONG) :])
    message = problem.message.replace(spelled(problem.path), spelled(path), 1)
    return Problem(message, path=path, hint=problem.hint, line=problem.line, source=problem.source)


def _upwards(path: EntryPath) -> list[EntryPath]:
    return [path[:length] for length in range(len(path), 0, -1)]


def _missing_files(value: Any, root: Path) -> list[Problem]:
    config = value.get("task", {}).get("config") if isinstance(value.get("task"), dict) else None
    if not isinstance(config, str) or (root / config).is_file():
        return []
    return [
        Problem(
            f"task.config: there is no file {config}",
            path=("task", "config"),
            hint="the path is relative to the recipe",
        )
    ]
