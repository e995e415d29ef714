"""What Lightning is told of a process group that Ray Train has made, in either of Lightning's two packages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from lrscale.training.flavour import Flavour

RAY_STRATEGIES = {"ddp": "RayDDPStrategy", "fsdp": "RayFSDPStrategy", "deepspeed": "RayDeepSpeedStrategy"}
"""First word of a strategy's name in Lightning -> Ray's class for it."""
_NOT_COPIED = frozenset({"__init__", "__dict__", "__weakref__", "__module__", "__abstractmethods__", "_abc_impl"})
"""``__init__`` calls that of Ray's own base and counts a use; the rest belongs to the class object."""


def on_ray(arguments: Mapping[str, Any], flavour: Flavour) -> dict[str, Any]:
    """Return the arguments of a Trainer whose ranks Ray Train has placed.

    Parameters
    ----------
    arguments : mapping
        Those of `trainer_arguments`.
    flavour : Flavour
        Package of the module.
    """
    return {
        **arguments,
        "strategy": ray_strategy(arguments["strategy"], flavour),
        "plugins": with_ray_environment(arguments.get("plugins"), flavour),
        # Ranks of this node: Ray may have placed more here than on another.
        "devices": int(os.environ["LOCAL_WORLD_SIZE"]),
    }


def ray_strategy(strategy: Any, flavour: Flavour) -> Any:
    """Return Ray's form of a strategy given by name; a strategy that is an object, or has no such form, stays.

    Parameters
    ----------
    strategy : str or Strategy
        As a Trainer takes it.
    flavour : Flavour
        Package of the module.

    Examples
    --------
    >>> ray_strategy("auto", Flavour("pytorch_lightning"))
    'auto'
    """
    name = strategy.split("_")[0] if isinstance(strategy, str) else ""
    if name not in RAY_STRATEGIES:
        return strategy
    import ray.train.lightning

    # The name stands for a class of Lightning and for arguments, such as those of ddp_find_unused_parameters_true.
    entry = flavour.get("strategies.StrategyRegistry")[strategy]
    own = getattr(ray.train.lightning, RAY_STRATEGIES[name])
    return _of_flavour(own, entry["strategy"])(**entry["init_params"])


def with_ray_environment(plugins: Any, flavour: Flavour) -> list[Any]:
    """Return a Trainer's plugins with Ray's environment in place of any other cluster's.

    The environment is Ray's ``RayLightningEnvironment``, which derives from the package that Ray has found; for a
    module of the other one it is a class of the same methods.
    """
    from ray.train.lightning import RayLightningEnvironment

    given: Sequence[Any] = plugins if isinstance(plugins, (list, tuple)) else [] if plugins is None else [plugins]
    clusters = flavour.get("plugins.environments.ClusterEnvironment")
    own = _of_flavour(RayLightningEnvironment, flavour.get("plugins.environments.LightningEnvironment"))
    return [*(one for one in given if not isinstance(one, clusters)), own()]


def _of_flavour(own: type, base: type) -> type:
    """Return Ray's class where it derives from `base`, else a class of the same name and content that does."""
    if issubclass(own, base):
        return own
    content = {name: value for name, value in vars(own).items() if name not in _NOT_COPIED}
    return type(own.__name__, (base,), content)
