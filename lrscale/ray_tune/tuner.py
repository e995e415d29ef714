"""One run of Ray Tune: how many trials at once, where its state is kept, and how it goes on after a kill."""

from __future__ import annotations

import math
import os
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.ray_tune.algorithms import Random
from lrscale.ray_tune.base import LOSS, AbstractAlgorithm, AbstractScheduler
from lrscale.ray_tune.space import LR, PLACE, Space

SETTINGS = {
    # Its tables and its log files of every trial are not ours; what happened is in the study.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ctrl-C ends the study as it does elsewhere, instead of Tune's own slow way.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "5",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Environment of Ray Tune."""
NAME = "search"
"""Folder of Tune's own state within the storage."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """All that decides what Ray Tune asks for."""

    space: Space
    scheduler: AbstractScheduler
    algorithm: AbstractAlgorithm
    trials: int
    length: int
    """Validations over the horizon, or segments of an evolution."""
    at_once: int
    seed: int

    def run(
        self,
        trainable: Callable[[Mapping[str, Any]], None],
        storage: Path,
        *,
        callbacks: Sequence[Any] = (),
        stop: Any = None,
        reuse_actors: bool = False,
    ) -> Any:
        """Run it to its end, from where an earlier run was killed, and return Tune's results.

        Parameters
        ----------
        trainable : callable
            A trial, in a process of this machine's node.
        storage : Path
            Folder where Tune keeps its state, seen by every node that a trial may run on.
        callbacks : sequence, optional
            Tune's own kind. Default none.
        stop : object, optional
            A stopper of Tune's own kind, which may end the whole run. Default None.
        reuse_actors : bool, optional
            Whether a process may run one trial after the other. Default False.
        """
        os.environ.update(SETTINGS)
        from ray import tune

        self.scheduler.require()
        self.algorithm.require()
        shared = tune.with_resources(trainable, tune.PlacementGroupFactory([self._slot()]))
        # Libraries draw from the generators of the process where they take no seed.
        random.seed(self.seed)
        _seed_numpy(self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._tuner(tune, shared, storage, callbacks, stop, reuse_actors).fit()

    def _tuner(
        self, tune: Any, trainable: Any, storage: Path, callbacks: Sequence[Any], stop: Any, reuse_actors: bool
    ) -> Any:
        kept = storage / NAME
        if tune.Tuner.can_restore(str(kept)):
            tuner = tune.Tuner.restore(str(kept), trainable, resume_unfinished=True, restart_errored=True)
            # What was pickled tells a desk that is gone; there is no public way to give others (ray 2.60).
            tuner._local_tuner._run_config.callbacks = list(callbacks)
            tuner._local_tuner._run_config.stop = stop
            return tuner
        searcher = self.algorithm.build(self.trials, self.seed)
        if isinstance(self.algorithm, Random):
            from ray.tune.search.basic_variant import BasicVariantGenerator

            searcher = BasicVariantGenerator(random_state=self.seed)
        return tune.Tuner(
            trainable,
            param_space=self._param_space(),
            tune_config=tune.TuneConfig(
                metric=LOSS,
                mode="min",
                num_samples=self.trials,
                scheduler=self.scheduler.build(self.space, self.length),
                search_alg=searcher,
                # A scheduler that waits for a bracket to be full needs its trials to be there, if only as paused ones.
                max_concurrent_trials=None if self.algorithm.limits_itself else self.at_once,
                reuse_actors=reuse_actors,
            ),
            run_config=tune.RunConfig(
                name=NAME,
                storage_path=str(storage),
                verbose=0,
                callbacks=list(callbacks),
                stop=stop,
                failure_config=tune.FailureConfig(max_failures=1),
            ),
        )

    def _param_space(self) -> dict[str, Any]:
        if not self.scheduler.multiplies:
            return self.space.domains()
        from ray import tune

        factors: dict[str, Any] = {LR: tune.loguniform(*self.space.learning_rates)}
        if PLACE in self.space.bounds:
            factors[PLACE] = tune.choice(list(range(len(self.space.batch_sizes))))
        return factors

    def _slot(self) -> dict[str, float]:
        # What supervises a trial waits, and must not take the CPU of a rank. A node has one of a resource of its own
        # name, whose shares are slots; nodes of one address, as in tests, have it in common. That of the head is needed
        # by Ray Train itself, which would wait for ever.
        import ray

        name = f"node:{ray.util.get_node_ip_address()}"
        total = ray.cluster_resources().get(name, 1.0)
        return {name: min(math.floor(1e4 * total / self.at_once) / 1e4, 1.0)}


def _seed_numpy(seed: int) -> None:
    import numpy as np

    np.random.seed(seed % 2**32)
