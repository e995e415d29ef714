from __future__ import annotations

from typing import Any

import pytest

from lrscale.errors import LrscaleError
from lrscale.store import ScheduleSpec, TrialRecord, TrialSpec
from lrscale.training.flavour import Flavour
from lrscale.training.instruments import AbstractInstrument, make_instruments
from lrscale.training.instruments.base import INSTRUMENTS

SPEC: dict[str, Any] = {
    "task": {"model": {"class_path": "m.Net"}},
    "schedule": ScheduleSpec(name="constant"),
    "peak_lr": 0.1,
    "global_batch_size": 32,
    "horizon": 100,
    "seed": 0,
}


class Counter(AbstractInstrument):
    def __init__(self, *, every: int = 1) -> None:
        self.every = every

    def measurement(self) -> dict[str, Any]:
        return {"every": self.every}


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(INSTRUMENTS._members, "counter", Counter)
    return "counter"


def test_what_a_trial_is_there_to_measure_is_part_of_its_identity() -> None:
    measured = TrialSpec(**SPEC, instruments={"counter": {"every": 2}})
    assert measured.trial_id != TrialSpec(**SPEC).trial_id
    assert TrialSpec.from_dict(measured.to_dict()) == measured


def test_a_record_keeps_what_instruments_measured() -> None:
    record = TrialRecord(trial_id="ab", status="completed", measurements={"counter": {"every": 2}})
    assert TrialRecord.from_dict(record.to_dict()) == record
    earlier = {key: value for key, value in record.to_dict().items() if key != "measurements"}
    assert TrialRecord.from_dict(earlier).measurements == {}


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_an_instrument_is_a_callback_of_the_modules_own_package(counter: str, package: str) -> None:
    flavour = Flavour(package)
    made = make_instruments({counter: {"every": 3}}, flavour)
    assert isinstance(made[counter], flavour.get("Callback")) and made[counter].measurement() == {"every": 3}


def test_a_setting_that_an_instrument_does_not_take_is_named(counter: str) -> None:
    with pytest.raises(LrscaleError, match=r"instrument counter cannot be made: .*'evry'"):
        make_instruments({counter: {"evry": 3}}, Flavour("lightning.pytorch"))
    with pytest.raises(LrscaleError, match="unknown instrument contour"):
        make_instruments({"contour": {}}, Flavour("lightning.pytorch"))
