"""Make docs/images: train a small book, and take its pages as a headless Chromium shows them.

    python tools/make_images.py --book FOLDER

A book that is there already is taken as it is, so that only the pictures are made again. It takes
about five minutes on two cores, Playwright and a Chromium (Debian: apt-get install chromium). Each
picture is reduced to 128 colours; one above 150 KB is an error.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
SAYINGS = ROOT / "src" / "tunebook" / "embedded" / "data" / "sayings.txt"
LARGEST_BYTES = 150_000
WIDTH = 1280
TUNEBOOK = (sys.executable, "-m", "tunebook")

QUICK = f"""\
name: quick
model: tunebook/tiny
data: [{{path: {SAYINGS}}}]
max_seq_len: 128
validation: {{fraction: 0.1}}
train: {{max_steps: 60, effective_batch_size: 8, learning_rate: 5e-4, warmup_fraction: 0.2}}
evaluate: {{prompts: ["hope:", "virus:"], max_new_tokens: 24}}
notebook:
  hypothesis: Sixty steps teach the form of a saying.
  predict: [val_loss < base_val_loss, no overfitting]
"""
HALF = """\
extends: quick
name: half
train: {learning_rate: 2.5e-4}
notebook: {hypothesis: Half the rate is enough., predict: [val_loss < quick.val_loss]}
"""
HOT = """\
extends: quick
name: hot
train: {learning_rate: 0.03}
notebook: {hypothesis: Sixty times the rate is too much., predict: [no divergence]}
"""
LORA = """\
extends: quick
name: lora8
method: lora
lora: {rank: 8, alpha: 16}
"""
SHORT = """\
extends: quick
name: short
train: {max_steps: 16, effective_batch_size: 4}
evaluate: {every: 50%, canary: 0, max_new_tokens: 1}
checkpoint: {every: 100%}
"""
SWEEP = """\
name: rates
run: short.yaml
search: grid
over:
  train.learning_rate: [1e-4, 3e-4, 1e-3]
  train.warmup_fraction: [0.1, 0.4]
"""
PICTURES = {
    # Name, address, height of what is shown.
    "ui-runs": ("/", 620),
    "ui-run": ("/runs/hot", 1180),
    "ui-compare": ("/compare?run=quick&run=half", 1150),
    "ui-sweep": ("/sweep?filter=tags%3Dsweep-rates", 750),
}


def make_book(book: Path) -> None:
    """Train the runs that are shown."""
    tunebook(Path.cwd(), "init", str(book))
    for name, text in (("quick", QUICK), ("half", HALF), ("hot", HOT), ("lora8", LORA)):
        (book / f"{name}.yaml").write_text(text, encoding="utf-8")
        tunebook(book, "train", f"{name}.yaml")
    (book / "short.yaml").write_text(SHORT, encoding="utf-8")
    (book / "rates.yaml").write_text(SWEEP, encoding="utf-8")
    tunebook(book, "sweep", "rates.yaml")
    for name in ("quick", "half"):
        tunebook(book, "evaluate", name)
    tunebook(book, "note", "hot", "the warm-up ends where it is hurt", "--tag", "spike")


def tunebook(book: Path, *words: str) -> None:
    """Run a command in a book; its failure ends this."""
    print("tunebook", *words, file=sys.stderr)
    subprocess.run([*TUNEBOOK, *words], cwd=book, check=True, stdout=sys.stderr)


@contextmanager
def serving(book: Path) -> Iterator[str]:
    """Serve a book by the command itself; gives its address."""
    server = subprocess.Popen(
        [*TUNEBOOK, "ui", "--port", "0", "--no-token"], cwd=book, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                break
    finally:
        server.terminate()
        server.wait(30)


def take(page: Page, address: str, height: int, target: Path) -> None:
    """Take one page as a picture of few colours."""
    from PIL import Image

    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1500)  # curves are drawn after the page is there
    page.screenshot(path=target)
    with Image.open(target) as picture:
        few = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    few.save(target, optimize=True)
    size = target.stat().st_size
    print(f"{target.name}: {size:,} bytes", file=sys.stderr)
    if size > LARGEST_BYTES:
        raise SystemExit(f"{target} has {size} bytes, and {LARGEST_BYTES} are the most")


def main() -> int:
    """Make the book where it is not there, then the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--book", type=Path, required=True, help="a book of this, or a new folder")
    book: Path = parser.parse_args().book.absolute()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        raise SystemExit("there is no Chromium here (Debian: apt-get install chromium)")
    if not book.exists():
        make_book(book)
    with serving(book) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(color_scheme="light")
        for name, (place, height) in PICTURES.items():
            take(page, f"{address}{place}", height, IMAGES / f"{name}.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
