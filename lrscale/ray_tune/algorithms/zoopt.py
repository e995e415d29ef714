"""ZOOpt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import ALGORITHMS, AbstractAlgorithm, Pin


@final
@ALGORITHMS.register("zoopt")
@dataclass(frozen=True, slots=True, kw_only=True)
class ZooOpt(AbstractAlgorithm):
    """Asynchronous sequential racing through classification (zoopt)."""

    title: ClassVar[str] = "ZOOpt (ZOOptSearch)"
    pins: ClassVar[tuple[Pin, ...]] = (Pin(package="zoopt", tested="0.4.2"),)

    @override
    def build(self, trials: int, seed: int) -> Any:
        from ray.tune.search.zoopt import ZOOptSearch
        from zoopt.utils.zoo_global import gl

        class Going(ZOOptSearch):  # type: ignore[misc]  # Ray is not typed
            """Waits for its first settings only as long as one of them is still to end.

            zoopt 0.4.2 stops asking when they are all asked for, until the last of them ends; when that has ended
            already, as with one trial at a time, it would wait for ever.
            """

            def suggest(self, trial_id: str) -> Any:
                own = self.optimizer
                if own is not None and own.complete_num >= own.get_parameters().get_train_size():
                    own.semaphore = 1
                return super().suggest(trial_id)

        gl.set_seed(seed)
        return Going(budget=trials)
