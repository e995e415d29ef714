"""The three ways in: named classes, a LightningCLI config, a factory function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lrscale.errors import TaskError
from lrscale.training.built import BuiltTask
from lrscale.training.cli_config import build_from_cli
from lrscale.training.flavour import Flavour, flavour_of
from lrscale.training.instantiate import accepts, build_value, import_object, init_args, instantiate, signature_of
from lrscale.training.paths import (
    CONFIG_ROOTS,
    get_in_config,
    get_in_object,
    lr_paths,
    set_in_config,
    set_in_object,
    tied_values,
    with_overrides,
)
from lrscale.training.seeding import seed_data, seed_initialisation


def build_task(
    task: Mapping[str, Any],
    *,
    overrides: Mapping[str, Any],
    peak_lr: float,
    per_device_batch_size: int,
    seed: int,
    root: Path,
    scratch: Path,
) -> BuiltTask:
    """Build a fresh module and its data.

    Parameters
    ----------
    task : mapping
        The resolved task of a spec.
    overrides : mapping
        Dotted keys that this trial sets otherwise.
    peak_lr : float
        Set at ``task.lr`` where the recipe names one, and handed to a factory.
    per_device_batch_size : int
        Set where the task keeps it.
    seed : int
        Handed to a factory.
    root, scratch : Path
        Folder of the recipe, and a folder for files made on the way.

    Raises
    ------
    TaskError
        When something is not there, takes no such argument, or does not work out.
    """
    if task.get("config"):
        plain = dict(task)
        built = build_from_cli(
            plain,
            overrides={**dict(_leaves(task.get("overrides") or {})), **overrides},
            peak_lr=peak_lr,
            per_device_batch_size=per_device_batch_size,
            seed=seed,
            root=root,
            scratch=scratch,
        )
    else:
        plain = with_overrides(task, overrides)
        own = _apply_config_paths(plain, peak_lr, per_device_batch_size)
        if plain.get("factory"):
            built = _from_factory(plain, peak_lr, per_device_batch_size, seed)
        else:
            built = _from_classes(plain, per_device_batch_size, seed)
        built.own_batch_size = built.own_batch_size if own is None else own
    _apply_object_paths(plain, built, peak_lr, per_device_batch_size)
    built.batch_size_named = bool(plain.get("batch_size") or plain.get("factory"))
    if lr_paths(plain):
        built.lr_home = f"task.lr {lr_paths(plain)[0]}"
    return built


def _apply_config_paths(plain: dict[str, Any], peak_lr: float, per_device_batch_size: int) -> int | None:
    paths = [path for path in lr_paths(plain) if path.split(".")[0] in CONFIG_ROOTS]
    for place, value in tied_values(paths, lambda place: get_in_config(plain, place), peak_lr).items():
        set_in_config(plain, place, value)
    path = plain.get("batch_size")
    if path and path.split(".")[0] in CONFIG_ROOTS:
        own = get_in_config(plain, path)
        set_in_config(plain, path, per_device_batch_size)
        return own if isinstance(own, int) else None
    return None


def _apply_object_paths(plain: Mapping[str, Any], built: BuiltTask, peak_lr: float, per_device_batch_size: int) -> None:
    def owner(path: str) -> tuple[Any, str]:
        first, _, rest = path.partition(".")
        if first == "datamodule" and rest:
            return built.datamodule, rest
        return (built.module, rest) if first == "module" and rest else (built.module, path)

    if not plain.get("config"):
        paths = [path for path in lr_paths(plain) if path.split(".")[0] not in CONFIG_ROOTS]
        values = tied_values(paths, lambda place: get_in_object(*owner(place), "task.lr"), peak_lr)
        for place, value in values.items():
            set_in_object(*owner(place), value, "task.lr")
    path = plain.get("batch_size")
    if path and path.split(".")[0] not in CONFIG_ROOTS:
        target, rest = owner(path)
        own = get_in_object(target, rest, "task.batch_size")
        built.own_batch_size = own if isinstance(own, int) else built.own_batch_size
        set_in_object(target, rest, per_device_batch_size, "task.batch_size")
        built.batch_size_home = path
    elif path:
        built.batch_size_home = path
    elif not built.batch_size_home:
        _set_known_attributes(built, per_device_batch_size)


def _set_known_attributes(built: BuiltTask, per_device_batch_size: int) -> None:
    # Where Lightning users keep it, in the order in which Lightning's own batch-size finder looks.
    homes = [(built.datamodule, "datamodule"), (built.module, "module")]
    for owner, label in homes:
        for path in ("batch_size", "hparams.batch_size"):
            if owner is None:
                continue
            try:
                own = get_in_object(owner, path, label)
            except (TaskError, AttributeError):
                continue
            if not isinstance(own, int) or isinstance(own, bool):
                continue
            try:
                set_in_object(owner, path, per_device_batch_size, label)
            except AttributeError:
                continue  # A property without a setter; the loader is still re-created.
            built.own_batch_size = built.own_batch_size or own
            built.batch_size_home = built.batch_size_home or f"{label}.{path}"


def _from_classes(plain: Mapping[str, Any], per_device_batch_size: int, seed: int) -> BuiltTask:
    own: int | None = None
    home = ""
    nodes = {name: dict(plain[name]) for name in ("data", "model") if plain.get(name)}
    if not plain.get("batch_size"):
        for name, node in nodes.items():
            kind = import_object(node["class_path"])
            if not home and accepts(kind, "batch_size"):
                arguments = init_args(node)
                own = arguments.get("batch_size", _default_of(kind, "batch_size"))
                node["init_args"] = {**arguments, "batch_size": per_device_batch_size}
                home = f"{name}.init_args.batch_size"
    seed_data()
    datamodule = instantiate(nodes["data"], "task.data") if "data" in nodes else None
    seed_initialisation(seed)
    module = instantiate(nodes["model"], "task.model")
    flavour = flavour_of(type(module))
    if datamodule is not None and flavour_of(type(datamodule)) != flavour:
        raise TaskError(
            f"task.model derives from {flavour.package}, task.data from {flavour_of(type(datamodule)).package}",
            hint="Lightning's two packages do not mix: import both from one",
        )
    trainer = {key: build_value(value, f"task.trainer.{key}") for key, value in (plain.get("trainer") or {}).items()}
    return BuiltTask(
        module=module,
        datamodule=datamodule,
        flavour=flavour,
        trainer_class=flavour.get("Trainer"),
        trainer_config=trainer,
        batch_size_home=home,
        own_batch_size=own,
    )


def _from_factory(plain: Mapping[str, Any], peak_lr: float, per_device_batch_size: int, seed: int) -> BuiltTask:
    path = plain["factory"]
    factory = import_object(path)
    given = {"lr": peak_lr, "batch_size": per_device_batch_size, "seed": seed}
    missing = [name for name in given if not accepts(factory, name) and not _takes_any(factory)]
    if missing:
        raise TaskError(
            f"task.factory {path} takes no {', '.join(missing)}", hint="its signature must be (lr, batch_size, seed)"
        )
    further = dict(plain.get("overrides") or {})
    unknown = [name for name in further if not accepts(factory, name) and not _takes_any(factory)]
    if unknown:
        raise TaskError(
            f"task.factory {path} takes no {', '.join(unknown)}",
            hint=f"add it to the function's arguments with a default; it takes {', '.join(_arguments_of(factory))}",
        )
    seed_initialisation(seed)
    made = factory(**{**further, **given})
    module, *data = made if isinstance(made, (tuple, list)) else (made,)
    try:
        flavour = flavour_of(type(module))
    except TaskError as error:
        raise TaskError(
            f"task.factory {path} returned a {type(module).__name__} first",
            hint="return (module, data module), (module, train loader) or (module, train loader, validation loader)",
        ) from error
    trainer = {key: build_value(value, f"task.trainer.{key}") for key, value in (plain.get("trainer") or {}).items()}
    built = BuiltTask(
        module=module,
        flavour=flavour,
        trainer_class=flavour.get("Trainer"),
        trainer_config=trainer,
        batch_size_home=f"{path}(batch_size=)",
        own_batch_size=_default_of(factory, "batch_size"),
        lr_home=f"{path}(lr=)",
    )
    if data and _is_datamodule(data[0], flavour):
        built.datamodule = data[0]
    elif data:
        if len(data) == 1 and isinstance(data[0], (tuple, list)) and len(data[0]) == 2:
            data = list(data[0])
        built.train_loader = data[0]
        built.val_loader = data[1] if len(data) > 1 else None
    return built


def _is_datamodule(value: Any, flavour: Flavour) -> bool:
    return isinstance(value, flavour.get("LightningDataModule"))


def _default_of(kind: Any, name: str) -> int | None:
    signature = signature_of(kind)
    default = signature.parameters[name].default if signature is not None and name in signature.parameters else None
    return default if isinstance(default, int) else None


def _arguments_of(function: Any) -> list[str]:
    signature = signature_of(function)
    return [] if signature is None else list(signature.parameters)


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of nested mappings; a class with its arguments is one value."""
    for key, own in value.items():
        if isinstance(own, Mapping) and own and "class_path" not in own:
            yield from _leaves(own, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", own


def _takes_any(function: Any) -> bool:
    signature = signature_of(function)
    return signature is not None and any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
