from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale import errors
from lrscale.errors import InterruptedStudyError, LrscaleError, TrialsFailedError, did_you_mean, nearest

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LrscaleError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_says_its_message_and_its_remedy(kind: type[LrscaleError]) -> None:
    assert str(kind("a is 3", hint="use 4")) == "a is 3; use 4"
    assert str(kind("a is 3")) == "a is 3"


def test_exit_codes_are_those_of_the_command_line() -> None:
    assert LrscaleError.exit_code == 2
    assert TrialsFailedError.exit_code == 3
    assert InterruptedStudyError.exit_code == 130


@given(st.text(max_size=10), st.lists(st.text(max_size=10), max_size=6))
def test_the_nearest_name_is_a_known_one(name: str, known: list[str]) -> None:
    found = nearest(name, known)
    assert found is None or found in known
    assert nearest(name, [*known, name]) == name


def test_a_remedy_names_the_nearest_or_all() -> None:
    assert did_you_mean("modle", ["data", "model"]) == "did you mean model?"
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
