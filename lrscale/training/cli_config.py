"""A LightningCLI config, read by LightningCLI itself or by the user's subclass of it."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lrscale.errors import TaskError
from lrscale.recipe.lines import dump_yaml
from lrscale.training.built import BuiltTask
from lrscale.training.flavour import PACKAGES, Flavour, flavour_of
from lrscale.training.instantiate import build_value, import_object
from lrscale.training.paths import get_in_config, lr_paths, set_in_config, tied_values

_NOISE = ("Does not validate", "Subtypes:", "Errors:", "Expected a <class 'NoneType'>", "Given value")
"""First words of lines that jsonargparse prints for values of optional types."""
LONGEST = 400
"""Characters kept of what a CLI says."""
_BATCH_PATHS = ("data.batch_size", "model.batch_size")


def build_from_cli(
    plain: Mapping[str, Any],
    *,
    overrides: Mapping[str, Any],
    peak_lr: float,
    per_device_batch_size: int,
    seed: int,
    root: Path,
    scratch: Path,
) -> BuiltTask:
    """Let a LightningCLI read the config, with this trial's values set in it, and take what it builds.

    The CLI does all its own work (argument links, `before_instantiate_classes`, defaults); only its subcommand is not
    run.

    Raises
    ------
    TaskError
        When the CLI does not accept the file, with its own words.
    """
    config = _read(root / plain["config"])
    own_strategy = users_strategy(plain, root)
    for key, value in overrides.items():
        set_in_config(config, key, value)
    for key, value in tied_values(lr_paths(plain), lambda key: get_in_config(config, key), peak_lr).items():
        set_in_config(config, key, value)
    home, own = _set_batch_size(config, plain, per_device_batch_size)
    for key, value in (plain.get("trainer") or {}).items():
        set_in_config(config, f"trainer.{key}", value)
    # Devices, loggers and files are the trial's business; the CLI must be able to build its Trainer all the same.
    ours = {"devices": 1, "num_nodes": 1, "accelerator": "cpu", "strategy": "auto", "logger": False}
    for key, value in ours.items():
        set_in_config(config, f"trainer.{key}", value)
    # The CLI seeds before it builds; a seed of the file's own would give every replicate the same initialisation.
    config["seed_everything"] = seed
    path = scratch / "config.yaml"
    path.write_text(dump_yaml(config), encoding="utf-8")
    cli = _read_by_cli(plain, path)
    flavour = flavour_of(type(cli.model))
    initial = cli.config_init.get("fit", cli.config_init)
    trainer = dict(vars(initial["trainer"])) if "trainer" in initial else {}
    trainer["strategy"] = build_value(own_strategy, "trainer.strategy") or "auto"
    # Callbacks come from the config, from arguments that the CLI adds, and from its defaults; its Trainer has them all.
    trainer["callbacks"] = list(cli.trainer.callbacks)
    return BuiltTask(
        module=cli.model,
        datamodule=cli.datamodule,
        flavour=flavour,
        trainer_class=cli.trainer_class,
        trainer_config=trainer,
        batch_size_home=home,
        own_batch_size=own,
    )


def users_strategy(plain: Mapping[str, Any], root: Path) -> Any:
    """Return the strategy as the user wrote it: in the recipe, else in a LightningCLI's config; None where nowhere.

    Parameters
    ----------
    plain : mapping
        The recipe's task, resolved.
    root : Path
        Folder that the config's path starts from.

    Examples
    --------
    >>> users_strategy({"trainer": {"strategy": "ddp"}}, Path())
    'ddp'
    """
    named = (plain.get("trainer") or {}).get("strategy")
    if named is None and plain.get("config") is not None:
        named = get_in_config(_read(root / plain["config"]), "trainer.strategy")
    return named


def _read(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TaskError(f"task.config {path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise TaskError(f"task.config {path} is not a mapping", hint="give a LightningCLI config file")
    # A file from `--print_config` of the whole program keeps everything under the subcommand.
    return dict(config["fit"]) if isinstance(config.get("fit"), dict) else config


def _set_batch_size(
    config: dict[str, Any], plain: Mapping[str, Any], per_device_batch_size: int
) -> tuple[str, int | None]:
    paths = [plain["batch_size"]] if plain.get("batch_size") else list(_BATCH_PATHS)
    for path in paths:
        own = get_in_config(config, path)
        if own is not None or plain.get("batch_size"):
            set_in_config(config, path, per_device_batch_size)
            return path, own if isinstance(own, int) else None
    return "", None


def _read_by_cli(plain: Mapping[str, Any], path: Path) -> Any:
    arguments = ["fit", "--config", str(path)]
    named = import_object(plain["cli"]) if plain.get("cli") else _stock_cli(path)
    printed = io.StringIO()
    try:
        with _captured() as made, contextlib.redirect_stderr(printed):
            if isinstance(named, type):
                return named(args=arguments, save_config_callback=None)
            # A function is the user's own main: it builds its CLI from the command line.
            with _command_line(arguments):
                named()
            if not made:
                raise TaskError(f"task.cli {plain['cli']} built no LightningCLI")
            return made[-1]
    except SystemExit as error:
        raise TaskError(
            f"task.config {plain['config']} is refused by its CLI: {_words_of(printed.getvalue())}"
        ) from error


def _words_of(printed: str) -> str:
    r"""Return what a parser said, without its usage and its account of every type that a value could have had.

    Examples
    --------
    >>> _words_of('usage: x\nerror: Parser key "model":\n  Does not validate\n  - Option b is not accepted\n')
    'Parser key "model": Option b is not accepted'
    """
    said = [line.strip().removeprefix("- ") for line in printed.splitlines() if line.strip()]
    start = next((index for index, line in enumerate(said) if line.startswith("error:")), len(said) - 1)
    words = [line.removeprefix("error: ") for line in said[max(0, start) :] if not line.startswith(_NOISE)]
    return " ".join(words)[:LONGEST] or "no message"


def _stock_cli(path: Path) -> Any:
    model = _read(path).get("model")
    if not isinstance(model, dict) or "class_path" not in model:
        raise TaskError(
            f"task.config {path.name} names no model.class_path",
            hint="name the LightningCLI class, or the function that makes it, in task.cli",
        )
    return Flavour(flavour_of(import_object(model["class_path"])).package).get("cli.LightningCLI")


@contextlib.contextmanager
def _captured() -> Iterator[list[Any]]:
    # `_run_subcommand` is private to Lightning; tests hold it in place for both packages.
    made: list[Any] = []

    def keep(self: Any, subcommand: str) -> None:
        del subcommand
        made.append(self)

    originals = []
    for package in PACKAGES:
        with contextlib.suppress(ImportError):
            kind = Flavour(package).get("cli.LightningCLI")
            originals.append((kind, kind._run_subcommand))
            kind._run_subcommand = keep
    try:
        yield made
    finally:
        for kind, original in originals:
            kind._run_subcommand = original


@contextlib.contextmanager
def _command_line(arguments: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before
