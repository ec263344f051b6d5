"""Figures of runs as SVG, PNG or PDF; matplotlib is loaded by the first one drawn.

The same run gives the same bytes: no date, and ids made of the numbers. An SVG is as light or dark
as its reader's screen, and says of which numbers it was drawn.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
import re
import threading
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from tunebook.pages.figure_colours import GROUND, dark_style
from tunebook.pages.run_curves import RunCurves

FORMS = ("svg", "png", "pdf")
MOST_RUNS = 10

_NO_DATE: dict[str, dict[str, Any]] = {
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
_drawing = threading.Lock()


def drawn_digest(svg: bytes) -> str | None:
    """Read from an SVG of which numbers it was drawn; None where it does not say."""
    found = re.search(rb'data-numbers="([0-9a-f]{16})"', svg[:4000])
    return found[1].decode() if found else None


def draw_figure(runs: Sequence[RunCurves], form: str, *, standalone: bool = True) -> bytes:
    """Draw one run in full, or the losses of several over each other, as one of `FORMS`.

    An SVG that is not `standalone` goes into a page that has `dark_style`.
    """
    matplotlib = _matplotlib()
    from matplotlib.figure import Figure

    from tunebook.pages.plots import draw_overlay, draw_run, settings

    digest = runs[0].digest()
    if len(runs) > 1:
        digest = hashlib.sha256("".join(run.digest() for run in runs).encode()).hexdigest()[:16]
    out = io.BytesIO()
    # Its settings are of the whole process; nobody's matplotlibrc shall change a figure.
    with _drawing, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings(digest))
        figure = Figure(facecolor=GROUND)
        if len(runs) == 1:
            draw_run(figure, runs[0])
        else:
            draw_overlay(figure, runs)
        figure.savefig(out, format=form, dpi=160, metadata=_NO_DATE[form])
    if form != "svg":
        return out.getvalue()
    label = "; ".join(run.in_words() for run in runs)
    return _tidy(out.getvalue().decode(), digest, label, standalone).encode()


# --- SVG ------------------------------------------------------------------------------------------

_HEAD = re.compile(r"^.*?(?=<svg )|<metadata>.*?</metadata>\s*", re.DOTALL)
_STYLE = re.compile(r'<style type="text/css">.*?</style>', re.DOTALL)
_VALUE = re.compile(r'"[^"]*"')
_PLACE = re.compile(r"(-?\d+\.\d\d)\d+")
_ID = re.compile(r' id="([^"]+)"')


def _tidy(svg: str, digest: str, label: str, standalone: bool) -> str:
    """Take out what no reader needs, and put in what the figure shows and was drawn of."""
    svg = _VALUE.sub(lambda found: _PLACE.sub(r"\1", found[0]), _HEAD.sub("", svg))
    used = set(re.findall(r'[("]#([^")]+)[")]', svg))
    svg = _ID.sub(lambda found: found[0] if found[1] in used else "", svg)
    style = "*{stroke-linejoin:round;stroke-linecap:butt}" + dark_style()
    svg = _STYLE.sub(lambda _: f"<style>{style}</style>" if standalone else "", svg, count=1)
    about = f'<svg role="img" aria-label={quoteattr(label)} data-numbers="{digest}" '
    return svg.replace("<svg ", about, 1).replace("\n    ", "\n")


def _matplotlib() -> Any:
    import logging

    # It would say on stderr that it makes a list of fonts, or that it may not keep one.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # It reads this file of the working folder, which may be a stranger's: a pipe would be waited
    # for, and a device has no end.
    strange = os.path.lexists("matplotlibrc")
    with contextlib.chdir(os.sep) if strange else contextlib.nullcontext():
        return importlib.import_module("matplotlib")
