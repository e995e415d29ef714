"""``python -m lrscale`` is the same as ``lrscale``."""

from __future__ import annotations

from lrscale.cli import main

if __name__ == "__main__":
    main()
