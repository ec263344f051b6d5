"""The pages of the guide that can be typed are typed, each into a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from guide_pages import missing_line, read_blocks, run_page

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
TYPED = [page for page in PAGES if any(b.asked.startswith("run") for b in read_blocks(DOCS / page))]
QUICK = [
    page
    for page in TYPED
    if any(b.asked.startswith("run") and not b.slow for b in read_blocks(DOCS / page))
]


def folder_in(place: Path) -> Path:
    folder = place / "reader"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("page", QUICK)
def test_what_a_page_says_is_so(page: str, tmp_path: Path) -> None:
    assert run_page(DOCS / page, folder_in(tmp_path), slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", TYPED)
def test_what_a_page_says_is_so_to_its_end(page: str, tmp_path: Path) -> None:
    assert run_page(DOCS / page, folder_in(tmp_path), slow=True)


def test_every_command_of_the_first_run_is_typed() -> None:
    text = (DOCS / "first-run.md").read_text(encoding="utf-8")
    typed = [b for b in read_blocks(DOCS / "first-run.md") if b.asked.startswith("run")]
    assert text.count("\n```sh\n") == len(typed) > 5


def test_a_page_that_is_wrong_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    words = "<!-- file: a/words.txt -->\n```text\none 1.5\n```\n\n"
    page.write_text(
        f"{words}<!-- run -->\n```sh\ncd a\ncat words.txt; tunebook nothing || true\n```\n\n"
        "<!-- run, exit 3 -->\n```sh\ntest -f words.txt; exit 3\n```\n",
        encoding="utf-8",
    )
    assert run_page(page, folder_in(tmp_path), slow=False) == []
    for wrong in ("<!-- run -->\n```sh\nfalse\n```\n", "<!-- shows -->\n```text\ntwo\n```\n"):
        page.write_text(
            f"{words}<!-- run -->\n```sh\ncat a/words.txt\n```\n\n{wrong}", encoding="utf-8"
        )
        place = tmp_path / str(len(wrong))
        place.mkdir()
        with pytest.raises(AssertionError, match="page"):
            run_page(page, folder_in(place), slow=False)


def test_counts_and_times_may_differ_and_words_may_not() -> None:
    printed = "loss 5.286 [5.088, 5.484]\nstep 1/71  lr 1.25e-04\nrun a finished  4.7 s\n"
    assert missing_line("loss 5.2 [5, 5]\nrun a finished  12.5 s\n", printed) is None
    assert missing_line("step 3/20  lr 1.3e-04\n", printed) is None
    assert missing_line("step … lr …\n…\n", printed) is None
    assert missing_line("loss 5.2\n", printed) == "loss 5.2"
    assert missing_line("run a finished  4.7 s\nloss 5.286 [5.088, 5.484]\n", printed) is not None


@pytest.mark.parametrize(
    ("shown", "printed", "fits"),
    [
        ("loss 5.9 [5.5, 6.2]", "loss 6.461 [5.998, 6.923]", True),
        ("loss 0.9 [0.5, 1.3]", "loss 2.078 [1.537, 2.619]", False),
        ("loss 2.078 [1.537, 2.619]", "loss 2.078 [0.537, 2.619]", False),
        ("loss 2.078 [… perplexity 7.987", "loss 2.1 [1, 3], perplexity 9.9", False),
        ("loss 2.078 [… perplexity 7.987", "loss 2.1 [1, 3], perplexity 8.1", True),
        ("difference  -4.383", "difference  4.383", False),
        ("p 0.01", "p 0.013", True),
        ("22.3 % carry loss", "2.3 % carry loss", False),
        ("lr 1.0e-3", "lr 1.0e-04", False),
        ("took 3.7 s, 83.7 MiB, version 1.2.3", "took 99.9 s, 1.1 GiB, version 4.5.6", True),
    ],
)
def test_a_number_with_a_decimal_point_is_one_that_was_printed(
    shown: str, printed: str, fits: bool
) -> None:
    assert (missing_line(shown, printed) is None) is fits
