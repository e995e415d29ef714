from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LayoutError, LrscaleError
from lrscale.units import UNITS, Duration, Layout, split_global_batch

VALUES = st.integers(1, 10**18)
SMALL = st.integers(1, 64)


@given(VALUES, st.sampled_from(UNITS))
def test_what_is_written_is_read_back(value: int, unit: str) -> None:
    duration = Duration(value, unit)  # type: ignore[arg-type]  # one of UNITS
    assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("200 steps", 200, "steps"),
        ("40k examples", 40_000, "examples"),
        ("1.5M tokens", 1_500_000, "tokens"),
        ("1e6 examples", 1_000_000, "examples"),
        ("2.5e+3 steps", 2500, "steps"),
        ("1B tokens", 10**9, "tokens"),
        ("1G tokens", 10**9, "tokens"),
        ("1.1k steps", 1100, "steps"),
        ("1 step", 1, "steps"),
        ("1 epoch", 1, "epochs"),
        ("  3  k  examples ", 3000, "examples"),
        ("1_000 steps", 1000, "steps"),
        ("9007199254740993 examples", 9007199254740993, "examples"),
    ],
)
def test_a_length_is_read_as_written(text: str, value: int, unit: str) -> None:
    assert Duration.parse(text) == Duration(value, unit)  # type: ignore[arg-type]  # one of UNITS


@pytest.mark.parametrize(
    "text",
    [
        *("", "40k", "40", "examples", "-3 steps", "0 steps", "1.5 steps", "0.3 examples", "3 parsecs", "nan steps"),
        *("3 K steps", "3 steps 4", "1e-3 steps", "\u0661\u0662 steps", "1e400 steps", "1e99999999 steps"),
    ],
)
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(LrscaleError):
        Duration.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_a_length_or_refused(text: str) -> None:
    try:
        assert Duration.parse(text).value > 0
    except LrscaleError:
        pass


@given(VALUES, st.integers(1, 10**6))
def test_steps_never_see_more_examples_than_asked_beyond_one_step(value: int, batch: int) -> None:
    steps = Duration(value, "examples").steps(batch)
    assert steps >= 1
    assert steps == 1 or steps * batch <= value < (steps + 1) * batch


def test_epochs_need_the_size_of_the_data() -> None:
    assert Duration(2, "epochs").steps(30, dataset_size=100) == 6
    with pytest.raises(LrscaleError, match="state the length in steps or examples"):
        Duration(2, "epochs").steps(30)
    with pytest.raises(LrscaleError):
        Duration(2, "tokens").steps(30, dataset_size=100)


def test_readable_lengths() -> None:
    assert [str(Duration(value, "examples")) for value in (999, 1000, 1500, 1234, 40_000, 2_500_000, 10**9)] == [
        "999 examples",
        "1k examples",
        "1.5k examples",
        "1234 examples",
        "40k examples",
        "2.5M examples",
        "1B examples",
    ]
    assert str(Duration(12_345_678_900_000, "tokens")) == "12345678.9M tokens"


@given(SMALL, SMALL, SMALL, SMALL)
def test_a_batch_that_divides_is_formed_exactly(per_device: int, accumulate: int, devices: int, nodes: int) -> None:
    size = per_device * accumulate * devices * nodes
    for layout in (
        split_global_batch(size, devices=devices, num_nodes=nodes),
        split_global_batch(size, devices=devices, num_nodes=nodes, per_device_batch_size=per_device),
        split_global_batch(size, devices=devices, num_nodes=nodes, max_per_device_batch_size=per_device),
    ):
        assert layout.global_batch_size == size
        assert (layout.devices, layout.num_nodes) == (devices, nodes)
    assert split_global_batch(size, devices=devices, num_nodes=nodes).accumulate == 1


@given(st.integers(1, 4096), st.integers(1, 8), st.integers(1, 512))
def test_the_bound_holds_with_the_least_accumulation(size: int, devices: int, bound: int) -> None:
    if size % devices:
        with pytest.raises(LayoutError):
            split_global_batch(size, devices=devices, max_per_device_batch_size=bound)
        return
    layout = split_global_batch(size, devices=devices, max_per_device_batch_size=bound)
    per_rank = size // devices
    assert layout.per_device_batch_size <= bound
    better = [part for part in range(layout.per_device_batch_size + 1, bound + 1) if per_rank % part == 0]
    assert not better


@given(st.integers(1, 2000), st.integers(2, 8), st.integers(1, 32))
def test_the_sizes_that_a_message_offers_do_divide(size: int, devices: int, per_device: int) -> None:
    try:
        split_global_batch(size, devices=devices, per_device_batch_size=per_device)
    except LayoutError as error:
        offered = str(error.hint).split(", or set")[0].removeprefix("use ").split(" or ")
        for near in offered:
            if size % devices == 0:
                layout = split_global_batch(int(near), devices=devices, per_device_batch_size=per_device)
            else:
                layout = split_global_batch(int(near), devices=devices)
            assert layout.global_batch_size == int(near)
        if "set per_device_batch_size" in str(error.hint):
            fits = int(str(error.hint).rsplit(": ", 1)[1])
            layout = split_global_batch(size, devices=devices, per_device_batch_size=fits)
            assert layout.global_batch_size == size


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"devices": 0}, "devices must be at least 1, not 0"),
        ({"num_nodes": -1}, "num_nodes must be at least 1, not -1"),
        ({"per_device_batch_size": 0}, "per_device_batch_size must be at least 1, not 0"),
        ({"max_per_device_batch_size": 0}, "max_per_device_batch_size must be at least 1, not 0"),
        (
            {"per_device_batch_size": 32, "max_per_device_batch_size": 16},
            "per_device_batch_size 32 is above max_per_device_batch_size 16",
        ),
    ],
)
def test_impossible_devices_are_refused_by_name(settings: dict[str, int], said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        split_global_batch(64, **settings)


def test_a_batch_below_one_is_refused() -> None:
    with pytest.raises(LayoutError, match="at least 1, not 0"):
        split_global_batch(0)
    with pytest.raises(LayoutError, match="accumulate must be at least 1"):
        Layout(per_device_batch_size=1, accumulate=0)
    with pytest.raises(LrscaleError, match="unknown unit"):
        Duration(3, "parsecs")  # type: ignore[arg-type]  # the point of the test
