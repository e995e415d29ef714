"""How far a running trial is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lrscale.store.trajectory import LINES_NAME

TAIL_BYTES = 4096
"""More than a dozen rows."""


def last_row(folder: Path) -> dict[str, Any] | None:
    """Return the last whole row of a trial's trajectory, or None while there is none."""
    try:
        with (folder / LINES_NAME).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL_BYTES))
            lines = stream.read().split(b"\n")
    except OSError:
        return None
    # The piece after the last newline may be torn; the first piece too when reading began in the middle.
    whole = lines[1 if size > TAIL_BYTES else 0 : -1]
    row: dict[str, Any] | None = json.loads(whole[-1]) if whole else None
    return row
