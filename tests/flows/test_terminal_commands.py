"""Words of others reach the terminal as words, whatever verb prints them."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import hostile_book
from hostile_book import make_hostile_book
from tunebook.book.places import create_book
from tunebook.cli.main import main
from tunebook.recipe.yaml_text import parse_yaml
from tunebook.terminal import SafeStream, console, redraw, shown_safely, visible

# The clipboard, the title, a clear screen, concealed words, C1, and letters turned around.
COMMANDS = "\x1b]52;c;Q0FO\x07 \x1b]0;t\x07 \x1b[2J \x1b[8mX \x9b2J \x08 \u202eabc\u2066 \x7f z"
ON_DISK = "\x1b[2J\u202e\x9bz"
# Colours, and what a bar or a live view of rich draws with.
OWN = re.compile(r"\x1b\[(?!8m)[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1?A|\x1b\[K|\r")
FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

EVERY = """
import json, os, sys
from tunebook.cli.main import main
from tunebook.recipe.yaml_text import parse_yaml
for words in json.loads(sys.argv[1]):
    main(words)
    for stream in (sys.stdout, sys.stderr):
        print("ENDED", file=stream, flush=True)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hostile_book, "HOSTILE", COMMANDS)
    book = make_hostile_book(create_book(tmp_path / "book"))
    rows = [{"prompt": f"q{COMMANDS}", "completion": f"c{COMMANDS}"}, {f"k{COMMANDS}": "q"}]
    text = "".join(json.dumps(row, ensure_ascii=n == 1) + "\n" for n, row in enumerate(rows))
    (book / "rows.jsonl").write_text(text)
    (book / f"f{ON_DISK}.jsonl").write_text('{"text": "a\n')
    (book / "odd.yaml").write_text(f"{json.dumps('k' + COMMANDS)}: 1\n")
    (book / "log.jsonl").write_text(json.dumps({"loss": 1.0, "step": 1, COMMANDS: 2}) + "\n")
    model = book / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": COMMANDS}))
    (model / f"p{ON_DISK}.bin").write_bytes(b"x")
    return book


def verbs() -> list[list[str]]:
    return [
        ["runs"],
        ["runs", "--json"],
        ["runs", "--format", "csv"],
        ["runs", "--filter", COMMANDS],
        ["show", "first"],
        ["show", "waits"],
        ["show", COMMANDS],
        ["verdicts", "first"],
        ["verdicts", "first", "--json"],
        ["diff", "first", "second"],
        ["lineage"],
        ["note", "first", COMMANDS],
        ["show", "first", "--json"],
        ["plan", "odd.yaml"],
        ["plan", "model"],
        ["data", "show", "rows.jsonl"],
        ["data", "show", f"f{ON_DISK}.jsonl"],
        ["data", "stats", "rows.jsonl"],
        ["import", "log.jsonl"],
        ["convert", "model", "-o", "out"],
        ["new", COMMANDS],
        [COMMANDS],
        ["data", COMMANDS],
    ]


def at_a_terminal(book: Path, words: list[list[str]]) -> str:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    process = subprocess.Popen(
        [sys.executable, "-c", EVERY, json.dumps(words)], cwd=book, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:
        pass  # what the end of a terminal reads as on Linux
    finally:
        os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_no_verb_prints_a_control_character_of_others_into_a_pipe(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY, json.dumps(verbs())],
        cwd=here,
        capture_output=True,
        check=True,
    )
    seen = ""
    for stream in (done.stdout.decode(), done.stderr.decode()):
        parts = stream.split("ENDED\n")[:-1]
        assert len(parts) == len(verbs())
        for words, said in zip(verbs(), parts, strict=True):
            assert not FORBIDDEN.findall(said), words
            assert "bug in tunebook" not in said, words
        seen += stream
    assert seen.count("\\u001b]52;c;") > 20
    assert seen.count("\\u202e") > 20
    for words, said in zip(verbs(), done.stdout.decode().split("ENDED\n"), strict=False):
        if "--json" in words:
            json.loads(said)


def test_no_verb_prints_a_control_character_of_others_at_a_terminal(here: Path) -> None:
    for words, said in zip(verbs(), at_a_terminal(here, verbs()).split("ENDED"), strict=False):
        assert not FORBIDDEN.findall(OWN.sub("", said).replace("\n", "")), words


def test_printed_json_holds_what_it_held(capsys: pytest.CaptureFixture[str]) -> None:
    from tunebook.book.codec import dump_json

    with shown_safely():
        print(dump_json({"said": [COMMANDS, "\\" + COMMANDS]}).decode())
    printed = capsys.readouterr().out
    assert not FORBIDDEN.search(printed.rstrip("\n"))
    assert json.loads(printed) == {"said": [COMMANDS, "\\" + COMMANDS]}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_own_colours_and_bars_and_nothing_that_hides_or_moves() -> None:
    terminal = Terminal()
    stream = SafeStream(terminal)
    for text in ("\x1b[1m\x1b[31mred\x1b[0m", "\r 10% ", "\n\n", "\x1b[A\x1b[A", "a\r\n"):
        stream.write(text)
    assert terminal.getvalue() == "\x1b[1m\x1b[31mred\x1b[0m\r 10% \n\n\x1b[A\x1b[Aa\r\n"
    terminal.truncate(terminal.seek(0))
    stream.write("x\ry \x1b[8m \x1b[30;40m \x1b[A z \x1b[38;2;0;0;0m")
    assert terminal.getvalue() == (
        "x\\u000dy \\u001b[8m \\u001b[30;40m \\u001b[A z \\u001b[38;2;0;0;0m"
    )


def test_bytes_do_not_pass_by_the_stream() -> None:
    assert not hasattr(SafeStream(io.TextIOWrapper(io.BytesIO())), "buffer")


def test_a_view_of_rich_is_drawn_and_its_words_are_filtered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rich.live import Live
    from rich.text import Text

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with shown_safely(), Live(console=console(stderr=True), auto_refresh=False) as live:
        live.update(Text(COMMANDS + "\nb"), refresh=True)
        live.update(Text("[link=x]c[/link]"), refresh=True)
    shown = terminal.getvalue()
    assert "\x1b[?25l" in shown
    assert "\x1b[2K" in shown
    assert "[link=x]c" in shown
    assert "\\u001b]52" in shown
    assert not FORBIDDEN.findall(OWN.sub("", shown).replace("\n", ""))


def test_a_line_drawn_in_place_holds_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with shown_safely():
        redraw(f"3 of {COMMANDS}")
    assert terminal.getvalue() == f"\r3 of {visible(COMMANDS)}\x1b[K"


def test_the_streams_are_given_back_when_a_command_ends() -> None:
    before = sys.stdout, sys.stderr
    assert main(["show", "nothing", "--nothing"]) == 2
    assert (sys.stdout, sys.stderr) == before


def test_a_converted_run_file_means_the_same_when_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "\u202arows.jsonl"  # as Windows copies a path
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    theirs = f"base_model: tiny\ndatasets:\n  - path: {json.dumps(str(rows))}\n    type: alpaca\n"
    (tmp_path / "ax.yml").write_text(theirs)
    done = subprocess.run(
        [sys.executable, "-m", "tunebook", "convert", "ax.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "\u202a" not in done.stdout
    assert parse_yaml(done.stdout, "it").values["data"][0]["path"] == str(rows)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_stream_that_was_closed_is_no_matter(tmp_path: Path, closed: str) -> None:
    book = create_book(tmp_path / "book")
    command = f'exec "$0" -m tunebook reindex {closed}'
    done = subprocess.run(["bash", "-c", command, sys.executable], cwd=book, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"bug" not in done.stderr


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "import os; from tunebook.terminal import fill_closed_streams; fill_closed_streams()\n"
        "print('lost'); file = open('kept', 'w'); os.write(1, b'lost'); file.write('kept')"
    )
    command = f'exec "$0" -c "{code}" >&-'
    subprocess.run(["bash", "-c", command, sys.executable], cwd=tmp_path, check=True)
    assert (tmp_path / "kept").read_text() == "kept"
