from __future__ import annotations

from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.book.places import RunFolder
from tunebook.cli.main import main


@pytest.fixture
def here(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(book)
    make_run(book, "a", predict=("val_loss < 3",))
    new = RunFolder(book, "n")
    new.path.mkdir()
    new.run_yaml.write_text("name: n\nmodel: m\nnotebook: {hypothesis: It helps.}\n")
    return book


def test_one_file_says_what_the_pages_say_and_forbids_scripts(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["notebook", "build", "--html"]) == 0
    said = capsys.readouterr()
    path = here / "notebook.html"
    assert said.out.splitlines()[-1] == str(path)
    assert "wrote " in said.err
    text = path.read_text(encoding="utf-8")
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert "<script" not in text
    assert ' src="data:image/svg+xml,%3Csvg' in text
    # The curve in braille says what the figure says.
    assert "⣀ train" not in text
    for words in ("Held out: 12 examples", "Sealed ", "tunebook new a-again", "It helps."):
        assert words in text


def test_the_file_lies_where_it_is_asked_for_and_not_in_place_of_a_folder(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["notebook", "build", "--html", "give.html"]) == 0
    assert (here / "give.html").is_file()
    capsys.readouterr()
    assert main(["notebook", "build", "--html", "runs"]) == 2
    assert capsys.readouterr().err == "tunebook: runs is a folder; name a file in it\n"


def test_a_figure_that_is_missing_leaves_the_curve_in_braille(here: Path) -> None:
    from tunebook.web.offline import offline_page

    assert main(["notebook", "build"]) == 0
    RunFolder(here, "a").curve_svg.unlink()
    assert "⣀ train" in offline_page(here)
