"""The planner's linear algebra keeps to one thread, and leaves those of everybody else as they were."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from lrscale.study.planner import Planner, Space
from lrscale.study.planner.one_thread import one_thread


def threads() -> list[int]:
    assert np.isfinite(np.linalg.cholesky(np.eye(2))).all()
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_one_thread_holds_inside_and_nothing_changes_outside() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with one_thread():
            inside = threads()
        after = threads()
    assert set(inside) == {1}
    assert before == after
    assert set(before) == {2}


def test_a_planner_answers_on_one_thread(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    planner = Planner(Space.lattice((1e-3, 4e-3), [16, 64]))
    for lr, loss in ((1e-3, 2.0), (4e-3, 3.0)):
        planner.tell(lr, 16, loss)
    seen = []
    known = Planner._known
    monkeypatch.setattr(Planner, "_known", lambda self: (seen.append(set(threads())), known(self))[1])
    with threadpool_limits(2, user_api="blas"):
        planner.ask()
        planner.choice()
        assert set(threads()) == {2}
    assert seen
    assert all(one == {1} for one in seen)
