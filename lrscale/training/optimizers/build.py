"""From an optimizer's name and the module's own groups to the optimizer."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lrscale.errors import TaskError
from lrscale.schedules.groups import group_base_lr
from lrscale.training.instantiate import accepts, build_value, check_arguments, import_object
from lrscale.training.optimizers.lion import Lion
from lrscale.training.optimizers.muon import MuonWithAdamW, hidden_matrices

Groups = list[dict[str, Any]]
SCHEDULE_FREE_HINT = "pip install 'lrscale[schedule-free]'"


def build_optimizer(
    choice: Mapping[str, Any], own_groups: list[dict[str, Any]], module: nn.Module, notes: list[str]
) -> torch.optim.Optimizer:
    """Return an optimizer over the module's own parameter groups.

    The groups, the ratios of their LRs and their weight decay stay; everything else is the optimizer's own default or
    what the choice sets. A weight decay of the choice takes the place of those that are not 0, so that biases and norms
    that are spared stay spared.

    Parameters
    ----------
    choice : mapping
        ``name`` and ``settings``, as `TrialSpec.other_optimizer` has them.
    own_groups : list of dict
        Parameter groups of the module's own optimizer.
    module : Module
        Tells which matrices are those of hidden layers.
    notes : list of str
        Gets a sentence where the choice does not reach all parameters.

    Raises
    ------
    TaskError
        For an unknown name or setting, and for a package that is not installed.
    """
    name, settings = str(choice["name"]), dict(choice.get("settings") or {})
    decay = settings.pop("weight_decay", None)
    if name == "class":
        return _of_class(settings, own_groups)
    if "betas" in settings:
        settings["betas"] = tuple(settings["betas"])
    groups = _groups(own_groups, decay)
    if name == "muon":
        return _muon(groups, settings, module, notes)
    if name not in MAKERS:
        raise TaskError(f"unknown optimizer {name}", hint=f"known: {', '.join([*MAKERS, 'muon', 'class'])}")
    made: torch.optim.Optimizer = MAKERS[name]()(groups, lr=groups[0]["lr"], **settings)
    return made


def _groups(own_groups: Groups, decay: float | None) -> Groups:
    groups = []
    spared = any(group.get("weight_decay") for group in own_groups)
    for own in own_groups:
        kept = own.get("weight_decay", 0.0)
        moved = kept if decay is None or (spared and not kept) else decay
        groups.append({"params": list(own["params"]), "lr": group_base_lr(own), "weight_decay": moved})
    return groups


def _of_class(settings: dict[str, Any], own_groups: Groups) -> torch.optim.Optimizer:
    path = settings["class_path"]
    kind = import_object(path)
    arguments = build_value(dict(settings.get("init_args") or {}), "the optimizer's init_args")
    groups = _groups(own_groups, arguments.get("weight_decay"))
    if not accepts(kind, "weight_decay"):
        groups = [{key: value for key, value in group.items() if key != "weight_decay"} for group in groups]
    given = check_arguments(kind, {"params": groups, **arguments}, "the optimizer", path)
    if accepts(kind, "lr"):
        given["lr"] = groups[0]["lr"]
    made = kind(**given)
    if not hasattr(made, "param_groups"):
        raise TaskError(f"{path} makes a {type(made).__name__}, which is no optimizer", hint="name a class of torch's")
    optimizer: torch.optim.Optimizer = made
    return optimizer


def _muon(groups: Groups, settings: Mapping[str, Any], module: nn.Module, notes: list[str]) -> MuonWithAdamW:
    hidden = hidden_matrices(module)
    parts: tuple[Groups, Groups] = ([], [])
    for group in groups:
        for part, wanted in zip(parts, (True, False), strict=True):
            params = [weight for weight in group["params"] if (id(weight) in hidden) is wanted]
            if params:
                part.append({**group, "params": params})
    sizes = [sum(weight.numel() for group in part for weight in group["params"]) for part in parts]
    notes.append(f"Muon trains {100 * sizes[0] / max(1, sum(sizes)):.0f} % of the parameters, AdamW the rest")
    return MuonWithAdamW(*parts, **settings)


def _schedule_free(name: str) -> Any:
    try:
        package = importlib.import_module("schedulefree")
    except ModuleNotFoundError as error:
        raise TaskError("the package schedulefree is not installed", hint=SCHEDULE_FREE_HINT) from error
    return getattr(package, name)


MAKERS: Mapping[str, Callable[[], Any]] = {
    "sgd": lambda: functools.partial(torch.optim.SGD, momentum=0.9),
    "adam": lambda: torch.optim.Adam,
    "adamw": lambda: torch.optim.AdamW,
    "lion": lambda: Lion,
    "schedule_free_sgd": lambda: _schedule_free("SGDScheduleFree"),
    "schedule_free_adamw": lambda: _schedule_free("AdamWScheduleFree"),
}
"""What makes an optimizer of parameter groups; a package that it is in is imported when it is asked for."""
