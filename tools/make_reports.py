"""Write docs/notebooks: what is told of each notebook, and the report of its recipe's twin.

    python tools/make_reports.py                    every page, from the reports that were kept
    python tools/make_reports.py cosmosage quotes   run these twins (minutes each), then the pages
    python tools/make_reports.py cosmosage --book F take the report of a book where it was run

`docs/notebooks/intro/NAME.md` is written by hand; `docs/notebooks/reports/NAME.md` is what the twin
gave last. A page is both, one after the other; `make docs` puts them together, too.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tunebook.workflows.recipes import find_recipe, run_recipe

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "docs" / "notebooks"
NAMES = ("cosmosage", "quotes", "alpaca", "chess", "pygmalion")
_MADE = (
    "<!-- Made by tools/make_reports.py from intro/{name}.md and a twin's report: edit those. -->"
)
_PRINTED = (
    "Written by `tunebook recipes run {name}`, the notebook's steps on embedded model and data; "
    "`tools/make_reports.py` put it here."
)
_NO_REPORT = "This notebook has no twin that was run."
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


def page(name: str, folder: Path = NOTEBOOKS) -> str:
    """Put a page together: the words of its introduction, then the report that was kept."""
    title, _, told = (folder / "intro" / f"{name}.md").read_text(encoding="utf-8").partition("\n")
    kept = folder / "reports" / f"{name}.md"
    report = _NO_REPORT
    if kept.exists():
        below = _below(kept.read_text(encoding="utf-8")).strip()
        report = f"{_PRINTED.format(name=name)}\n\n{below}"
    parts = (title, _MADE.format(name=name), told.strip(), "## The twin's report", report)
    return "\n\n".join(parts) + "\n"


def _below(report: str) -> str:
    """Give a report as a part of a page: without its title, its headings one deeper."""
    lines, fenced = [], False
    for line in report.splitlines():
        fenced ^= line.startswith(("```", "~~~"))
        if line.startswith("# ") and not fenced:
            continue
        lines.append(f"#{line}" if line.startswith("##") and not fenced else line)
    return "\n".join(lines)


def keep_report(name: str, report: Path, folder: Path = NOTEBOOKS) -> None:
    """Keep a report and the pictures it shows, under names of the notebook's own.

    A report that names a place of this machine, or a picture that is not there, is not kept.
    """
    pictures = folder / "images"

    def kept(match: re.Match[str]) -> str:
        words, place = match.groups()
        found = report.parent / place
        if not found.is_file():
            raise SystemExit(f"{report}: there is no picture {place}")
        target = pictures / f"{name}-{found.parent.name}-{found.name}"
        pictures.mkdir(exist_ok=True)
        shutil.copyfile(found, target)
        return f"![{words}](images/{target.name})"

    text = _PICTURE.sub(kept, report.read_text(encoding="utf-8"))
    if str(report.parent) in text:
        raise SystemExit(f"{report}: the report names {report.parent}, a place of this machine")
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "reports" / f"{name}.md").write_text(text, encoding="utf-8")


def main() -> int:
    """Run the twins that are named, keep their reports, and write every page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--book", type=Path, help="the book of one recipe, here or to be made")
    asked = parser.parse_args()
    if asked.book and len(asked.names) != 1:
        parser.error("--book is for one recipe; name it")
    for name in asked.names:
        find_recipe(name)  # a wrong name is told before anything is run
    for name in asked.names:
        with tempfile.TemporaryDirectory(prefix="tunebook-recipe-") as place:
            book = asked.book or Path(place) / f"{name}-book"
            report = run_recipe(name, book, say=lambda text: print(text, file=sys.stderr))
            keep_report(name, report)
    for name in NAMES:
        (NOTEBOOKS / f"{name}.md").write_text(page(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
