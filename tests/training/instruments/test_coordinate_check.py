"""The coordinate check on real trials, of a module in the standard and in the maximal update parametrisation."""

from __future__ import annotations

import pytest
from lrscale_test_trials import Trials, make_spec, make_task

from lrscale.laws.parametrisation import CoordinateCheck, coordinate_check
from lrscale.units import Layout

WIDTHS = (32, 128, 512)
SEEDS = 4


def checked(trials: Trials, mup: bool) -> CoordinateCheck:
    wanted = [
        (
            make_spec(
                make_task(
                    "width_modules.WidthNet",
                    init={"width": width, "mup": mup},
                    data="width_modules.WidthData",
                ),
                batch=64,
                horizon=4,
                lr=0.02,
                every=None,
                seed=seed,
                schedule="constant",
            ),
            Layout(per_device_batch_size=32, devices=2),
        )
        for width in WIDTHS
        for seed in range(SEEDS)
    ]
    ran = trials.run(*wanted, instruments={"coordinates": {"steps": 4}})
    sizes: dict[str, dict[int, dict[float, list[float | None]]]] = {}
    for one in ran:
        assert one.record.status == "completed", one.record.reason
        width = float(one.spec.task["model"]["init_args"]["width"])
        for part in one.record.measurements["coordinates"]["parts"]:
            sizes.setdefault(part["name"], {}).setdefault(one.spec.seed, {})[width] = part["sizes"]
    return coordinate_check(sizes)


@pytest.mark.slow
def test_outputs_grow_with_the_width_in_the_standard_parametrisation_alone(trials: Trials) -> None:
    standard = checked(trials, mup=False)
    assert standard.drift == "grows"
    grows = {part.name for part in standard.parts if part.drift(0.95) == "grows"}
    # The first layer has as many inputs at every width.
    assert {"hidden", "readout"} <= grows and "inputs" not in grows
    maximal = checked(trials, mup=True)
    assert maximal.drift == "does not grow", [part.to_dict(0.95) for part in maximal.parts]
