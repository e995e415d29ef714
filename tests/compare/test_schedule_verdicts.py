"""What a study says of its schedules stands beside the other study's, also where no schedule is the best."""

from __future__ import annotations

import pytest

from lrscale.compare.side import Side
from lrscale.compare.subjects.schedules import verdicts
from lrscale.recipe import Recipe
from lrscale.recommend import Refusal
from lrscale.store import StudyView, Trajectory
from lrscale.study.finding import Finding


def side(**said: str) -> Side:
    finding = Finding(
        key="schedules",
        title="Schedules",
        status="ok",
        sentence="Compared.",
        data={"schedules": [{"name": name, "label": name, "verdict": verdict} for name, verdict in said.items()]},
    )
    recipe = Recipe.model_validate({"name": "shop", "task": {"model": {"class_path": "shop.Net"}}})
    view = StudyView({}, lambda _: Trajectory())
    return Side(label="a", recipe=recipe, view=view, findings=(finding,), answer=Refusal(sentence="", needs=""))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"wsd": "best", "cosine": "worse"}, "best: wsd; worse: cosine"),
        (
            {"wsd": "lowest", "cosine": "tied", "linear": "cannot tell"},
            "lowest: wsd; tied: cosine; cannot tell: linear",
        ),
    ],
)
def test_every_schedule_is_named_with_its_verdict(said: dict[str, str], words: str) -> None:
    assert verdicts(side(**said)) == words
