"""The command line. Importing it loads typer only; every command imports what it needs when it runs."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the console script ``lrscale`` and ``python -m lrscale`` start here."""
    from lrscale.cli.app import app
    from lrscale.cli.text import tolerate_any_encoding

    tolerate_any_encoding()
    app(prog_name="lrscale")
