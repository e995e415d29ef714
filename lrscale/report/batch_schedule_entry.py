"""A batch schedule as a recipe takes it, to be copied out of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lrscale.report.base import Snippet


def batch_schedule_entry(label: str, batch_size: int, schedule: Mapping[str, Any]) -> Snippet:
    """Return the experiment that trains a batch schedule beside the constant batch.

    Examples
    --------
    >>> print(batch_schedule_entry("ramp", 32, {"name": "linear_ramp"}).text)
    experiments:
      schedules:
        batch_size: 32
        schedules:
          - constant
          - {"name": "constant", "batch_schedule": {"name": "linear_ramp"}}
    """
    entry = json.dumps({"name": "constant", "batch_schedule": dict(schedule)})
    lines = ["experiments:", "  schedules:", f"    batch_size: {batch_size}", "    schedules:", "      - constant"]
    return Snippet(label=label, text="\n".join([*lines, f"      - {entry}"]))
