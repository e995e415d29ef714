from __future__ import annotations

import pytest

from lrscale.errors import LrscaleError
from lrscale.registry import Registry


def shapes() -> Registry[type]:
    family = Registry[type]("shape")
    family.register("square")(int)
    family.register("circle")(float)
    return family


def test_members_are_listed_in_the_order_of_registration() -> None:
    assert list(shapes()) == ["square", "circle"]
    assert len(shapes()) == 2
    assert dict(shapes()) == {"square": int, "circle": float}


def test_a_name_is_used_once() -> None:
    with pytest.raises(LrscaleError, match="shape square is registered twice"):
        shapes().register("square")(str)


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(LrscaleError, match=r"unknown shape squar; did you mean square\?"):
        shapes()["squar"]


def test_asking_for_an_unknown_name_is_no_error() -> None:
    assert "triangle" not in shapes()
    assert shapes().get("triangle") is None
