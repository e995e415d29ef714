"""``lrscale index``: the studies of a folder on one page."""

from __future__ import annotations

from pathlib import Path

import typer

from lrscale.cli.guard import DONE, NO
from lrscale.cli.outputs import open_page
from lrscale.errors import LrscaleError


def write_index(folder: Path, *, out: Path | None, open_in_browser: bool) -> int:
    """Write the list of studies.

    Parameters
    ----------
    folder : Path
        Where studies are looked for.
    out : Path or None
        The page; None for ``index.html`` in that folder.
    open_in_browser : bool

    Returns
    -------
    int
        1 when there is no study, else 0.

    Raises
    ------
    LrscaleError
        When the folder is none, or something else lies where the page goes.
    """
    from lrscale.report.index import INDEX_NAME, find_studies, read_entry, render_index
    from lrscale.store.files import write_atomically

    if not folder.is_dir():
        raise LrscaleError(f"there is no folder {folder}", hint="name the folder that holds study folders, or reports")
    found = find_studies(folder)
    if not found:
        typer.echo(f"no study in {folder}")
        return NO
    page = folder / INDEX_NAME if out is None else out
    if not page.parent.is_dir():
        raise LrscaleError(f"there is no folder {page.parent} for {page.name}", hint="make it first")
    if page.exists() and b"Made by lrscale" not in page.read_bytes():
        raise LrscaleError(f"{page} is there already and no page of lrscale", hint="name another file with --out")
    write_atomically(page, render_index([read_entry(path) for path in found], page.parent.resolve()))
    typer.echo(f"{page}: {len(found)} {'study' if len(found) == 1 else 'studies'}")
    if open_in_browser:
        open_page(page)
    return DONE
