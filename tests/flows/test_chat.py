"""What is said in a talk with a run, what the model is asked, and what stays of it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from test_release import train_in
from transformers import AutoModelForCausalLM

from tunebook.book.evaluations import read_log
from tunebook.book.places import RunFolder, create_book
from tunebook.cli.chat_screen import TerminalScreen
from tunebook.cli.main import main
from tunebook.models.generate import Sampling
from tunebook.models.tokenizer import load_tokenizer
from tunebook.terminal import visible
from tunebook.workflows import talk as talk_module
from tunebook.workflows.chat import Frame, open_talk
from tunebook.workflows.talk import Talk

GREEDY = ("--temperature", "0", "--max-new-tokens", "8")
Say = Callable[..., tuple[str, str]]


def write_talks(book: Path) -> Path:
    """Write talks with a persona, some with a fact to answer from."""
    fact = [{"speaker": "knowledge", "text": "Rain falls at ten."}]
    rows = [
        {
            "persona": f"I am sailor {i}.",
            "turns": [
                {"speaker": "user", "text": f"Say {i}."},
                *(fact if i % 2 else []),
                {"speaker": "bot", "text": f"The sea is {i} miles wide."},
            ],
        }
        for i in range(40)
    ]
    path = book / "talks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def talkers(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A book with an adapter that talks, weights that answer, and weights that go on from text."""
    book = create_book(tmp_path_factory.mktemp("talkers") / "book")
    few = {"train": {"max_steps": 8, "learning_rate": 0.1}, "max_seq_len": 192}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(book)
        talks = [{"path": str(write_talks(book)), "format": "persona"}]
        train_in(book, "talker", tiny_model, method="lora", data=talks, template="persona", **few)
        train_in(book, "answerer", tiny_model, **few)
        text = book / "sea.txt"
        text.write_text("the old sailor told the child a story about the sea\n" * 80)
        train_in(
            book,
            "writer",
            tiny_model,
            stage="cpt",
            template="auto",
            data=[{"path": str(text), "document": "line"}],
            **few,
        )
    return book


@pytest.fixture
def say(talkers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Give a function that talks through standard input; gives standard output and error."""
    monkeypatch.chdir(talkers)

    def run(lines: str | bytes, *words: str, code: int = 0) -> tuple[str, str]:
        data = lines if isinstance(lines, bytes) else lines.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert main(["chat", *words]) == code
        found = capsys.readouterr()
        assert "Traceback" not in found.err
        return found.out, found.err

    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Keep the prompts that are given to a model."""
    prompts: list[list[int]] = []
    generate = talk_module.generate

    def keep(loaded: Any, given: Sequence[Sequence[int]], *rest: Any, **more: Any) -> Any:
        prompts.extend(list(ids) for ids in given)
        return generate(loaded, given, *rest, **more)

    monkeypatch.setattr(talk_module, "generate", keep)
    return prompts


@pytest.fixture
def opened(talkers: Path) -> Callable[..., Talk]:
    """Give a function that opens a talk as by hand."""

    def open_one(name: str = "talker", **more: Any) -> Talk:
        frame = more.pop("frame", Frame())
        sampling = more.pop("sampling", Sampling(6))
        return open_talk(name, talkers, frame, sampling, by_hand=True, **more)

    return open_one


def greedy(model: Path, prompt: Sequence[int], n: int) -> list[int]:
    """Write the likeliest tokens as transformers does, without this project."""
    causal = AutoModelForCausalLM.from_pretrained(model).eval()
    ids = torch.tensor([list(prompt)])
    with torch.no_grad():
        for _ in range(n):
            ids = torch.cat([ids, causal(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return [int(i) for i in ids[0, len(prompt) :]]


def turns(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_run_and_base_answer_each_turn_and_remember_their_own_words(
    say: Say, asked: list[list[int]], tiny_model: Path
) -> None:
    out, err = say(
        "Say 3.\n\nSay 4.\n",
        *("talker", "--vs", "base", "--json", "--persona", "I am sailor 3.", *GREEDY),
        *("--opening", "Ahoy.", "--knowledge", "Rain falls at ten."),
    )
    first, second = turns(out)
    assert [one["name"] for one in first["answers"]] == ["talker", "talker/base"]
    assert (first["knowledge"], second["knowledge"]) == (["Rain falls at ten."], [])
    assert "loading talker and talker/base" in err
    codec = load_tokenizer(str(tiny_model))
    begun = "Persona: I am sailor 3.\nAssistant: Ahoy.<|endoftext|>\nUser: Say 3.\n"
    begun += "Relevant Knowledge: Rain falls at ten.\nAssistant:"
    assert [codec.decode(ids) for ids in asked[:2]] == [begun, begun]
    for place in (0, 1):
        said = first["answers"][place]["text"]
        went_on = f"{begun} {said}<|endoftext|>\nUser: Say 4.\nAssistant:"
        assert codec.decode(asked[2 + place]) == went_on
    # The base is bare although one load has both.
    ids = first["answers"][1]["ids"]
    assert ids == greedy(tiny_model, asked[1], 8)
    assert first["answers"][0]["ids"] != ids
    assert [one["tokens"] for one in first["answers"]] == [8, 8]
    assert not first["answers"][1]["ended"]


def test_plain_answers_are_the_text_alone_with_names_where_two_speak(say: Say) -> None:
    alone, err = say("Say 3.\n", "talker", "--opening", "Ahoy.", *GREEDY)
    assert err.endswith("talker: cut after 8 tokens\n")
    assert alone.startswith("Ahoy.\n")
    both, _ = say("Say 3.\nSay 4.\n", "talker", "--vs", "answerer/best", *GREEDY)
    names = [line.partition(":")[0] for line in both.splitlines() if ": " in line]
    assert names == ["talker", "answerer/best"] * 2
    again, _ = say("Say 3.\n", "talker", *GREEDY)
    assert both.startswith(f"talker: {again}")


def test_a_talk_too_long_loses_its_oldest_turns_and_says_so(
    say: Say, asked: list[list[int]], tiny_model: Path
) -> None:
    codec = load_tokenizer(str(tiny_model))
    lines = "".join(f"This is number {i} of what is said here.\n" for i in range(7))
    _, err = say(lines, "talker", "--persona", "I am sailor 3.", *GREEDY)
    assert re.search(r"talker: the talk is too long: the oldest \d messages were left out", err)
    last = codec.decode(asked[-1])
    assert last.startswith("Persona: I am sailor 3.\n")
    assert "number 0" not in last
    assert last.endswith("User: This is number 6 of what is said here.\nAssistant:")
    assert max(map(len, asked)) <= 192 - 8
    _, err = say("x" * 400 + "\n", "talker", *GREEDY)
    assert "too long: the first " in err


def test_templates_of_one_answer_take_each_line_as_a_question(
    say: Say, asked: list[list[int]], tiny_model: Path
) -> None:
    codec = load_tokenizer(str(tiny_model))
    _, err = say("Say red.\nSay blue.\n", "answerer", *GREEDY)
    assert err.count("template alpaca takes one answer: each line is a new question") == 1
    assert [codec.decode(ids).partition("tion:\n")[2] for ids in asked] == [
        "Say red.\n\n### Response:\n",
        "Say blue.\n\n### Response:\n",
    ]
    asked.clear()
    _, err = say("the old sailor\n", "writer", *GREEDY)
    assert "stage cpt: each line begins a text" in err
    assert codec.decode(asked[0]) == "the old sailor"


@pytest.mark.parametrize(
    ("words", "lines", "said"),
    [
        (["answerer", "--persona", "x"], "", "--persona: answerer was trained in template alpaca"),
        (["writer", "--opening", "x"], "", "--opening: writer was trained on text"),
        (["answerer"], "/knowledge x\n", "/knowledge: answerer was trained in template alpaca"),
        (["talker", "--vs", "answerer", "--persona", "x"], "", "--persona: answerer was trained"),
        (["talker", "--vs", "talker"], "", "--vs talker is what is talked to already"),
        (["talker", "--vs", "talker/step-9"], "", "run talker has no step-9 weights"),
        (["talker", "--weights", "first"], "", "run talker has no first weights"),
        (["talkr"], "", "did you mean `talker`?"),
        (["talker"], "/sav\n", "there is no command /sav; there is /help, /regenerate"),
        (["talker"], "/undo\n", "nothing was said yet"),
        (["talker", "--temperature", "0"], "a\n/regenerate\n", "start with --temperature 0.7"),
        (["talker"], b"good\n\xff\n", "line 2 of standard input is not UTF-8"),
    ],
)
def test_what_cannot_be_said_is_one_sentence(
    say: Say, words: list[str], lines: str | bytes, said: str
) -> None:
    _, err = say(lines, *words, *(() if "--temperature" in words else GREEDY), code=2)
    assert said in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("tunebook: ")


def test_commands_take_back_answer_again_and_begin_anew(
    say: Say, asked: list[list[int]], tiny_model: Path
) -> None:
    lines = "Say 1.\n/regenerate\nSay 2.\n/undo\n//etc\n/reset\nSay 1.\n/help\n/quit\nSay 9.\n"
    out, err = say(lines, "talker", "--json", "--max-new-tokens", "8")
    said = turns(out)
    shown = [(one["turn"], one["asked"], one["attempt"]) for one in said]
    # Two slashes begin a message with one.
    assert shown == [
        (1, "Say 1.", 0),
        (1, "Say 1.", 1),
        (2, "Say 2.", 0),
        (2, "/etc", 0),
        (1, "Say 1.", 0),
    ]
    assert said[0]["seed"] != said[1]["seed"]
    assert said[0]["answers"][0]["ids"] != said[1]["answers"][0]["ids"]
    assert said[4] == said[0]
    last = load_tokenizer(str(tiny_model)).decode(asked[3])
    assert "Say 2." not in last
    assert said[1]["answers"][0]["text"] in last
    assert "taken back: Say 2." in err
    assert "/knowledge TEXT" in err


def test_a_saved_talk_is_in_the_runs_evaluations_once(say: Say, talkers: Path) -> None:
    lines = "Say 1.\n/save\nSay 2.\n/save\n/undo\nSay 3.\n/save\n"
    out, err = say(
        lines, "talker", "--vs", "base", "--json", "--seed", "5", "--max-new-tokens", "4"
    )
    assert err.count("1 turn added to ") == 3
    [path] = RunFolder(talkers, "talker").evaluations.glob("chat-final-*.jsonl")
    rows = read_log(path)
    assert [row["asked"] for row in rows] == ["Say 1.", "Say 2.", "Say 3."]
    assert [row["after"] for row in rows] == ["", rows[0]["item_hash"], rows[0]["item_hash"]]
    assert [one["name"] for one in rows[0]["answers"]] == ["talker", "talker/base"]
    assert rows[0]["answers"] == turns(out)[0]["answers"]


def test_a_frame_that_was_never_trained_is_said(say: Say) -> None:
    _, err = say("a\n", "talker", "--knowledge", "Rain falls.", *GREEDY)
    assert "probe-template-mismatch" not in err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunebook.data.render.KNOWLEDGE", "Known: ")
        _, err = say("a\n", "talker", "--knowledge", "Rain falls.", *GREEDY)
    assert "probe-template-mismatch: 'Known:' before the knowledge" in err


OWN_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}[{{ m.role }}] {{ m.content }}{{ eos_token if m.role == 'assistant' else '' }}"
    "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)


def test_a_models_own_chat_template_is_asked_with_and_may_refuse_a_persona(
    book: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[list[int]],
    say: Say,
) -> None:
    model = tmp_path / "talking"
    shutil.copytree(tiny_model, model)
    (model / "chat_template.jinja").write_text(OWN_TEMPLATE)
    monkeypatch.chdir(book)
    few = {"train": {"max_steps": 2}, "evaluate": {"prompts": []}}
    train_in(book, "own", model, template="auto", **few)
    _, err = say("Say 1.\n", "own", "--persona", "x", *GREEDY, code=2)
    assert "--persona: the chat template of own takes no such message first" in err
    out, _ = say("Say 1.\n/knowledge It rains.\nSay <|endoftext|>\n", "own", "--json", *GREEDY)
    answer = turns(out)[0]["answers"][0]["text"]
    ids = asked[-1]
    assert load_tokenizer(str(model)).decode(ids) == (
        f"[user] Say 1.[assistant] {answer}<|endoftext|>"
        "[user] Relevant Knowledge: It rains.\n\nSay <|endoftext|>[assistant] "
    )
    assert ids.count(0) == 1  # what was typed is text, and ends nothing


@pytest.mark.slow
def test_at_a_real_terminal_an_answer_is_stopped_and_the_talk_ends(talkers: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

    def take_terminal() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite in the background ignores it
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    words = ["chat", "talker", "--weights", "base", "--max-new-tokens", "240"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tunebook", *words, "--temperature", "0"],
        cwd=talkers,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    seen = ""

    def until(text: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 60
        while text not in seen:
            ready, _, _ = select.select([ours], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} did not come: {seen}"
            seen += os.read(ours, 4096).decode(errors="replace")
        seen = seen.partition(text)[2]

    try:
        until("you: ")
        os.write(ours, b"Say 1.\n")
        until("talker/base: ")
        os.write(ours, b"\x03")
        until("(stopped)")
        until("you: ")
        os.write(ours, b"/undo\n")
        until("taken back: Say 1.")
        until("you: ")
        os.write(ours, b"\x04")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_ctrl_c_ends_an_answer_and_the_talk_goes_on_with_what_was_said(
    opened: Callable[..., Talk],
) -> None:
    talk = opened(versus="base")
    heard: list[str] = []

    def stop(name: str, text: str) -> None:
        heard.append(name)
        if heard.count(name) == 3 and name == "talker":
            raise KeyboardInterrupt

    turn = talk.ask("Say 1.", stop)
    assert [one.stopped for one in turn.answers] == [True, False]
    assert [one.tokens for one in turn.answers] == [3, 6]
    assert not turn.answers[0].ended
    assert talk.messages(0)[-1].content == turn.answers[0].text
    talk.by_hand = False
    heard.clear()
    with pytest.raises(KeyboardInterrupt):
        talk.ask("Say 2.", stop)
    assert talk.turns == [turn]


def test_a_terminal_shows_two_columns_or_one_under_the_other(opened: Callable[..., Talk]) -> None:
    talk = opened(versus="base", frame=Frame(opening="Ahoy."))
    turn = talk.ask("Say 1.")
    shown = {}
    for width in (100, 60):
        screen = TerminalScreen(Console(width=width, file=io.StringIO(), force_terminal=False))
        screen.begin(talk)
        screen.answered(1, turn)
        shown[width] = screen.console.file.getvalue()  # type: ignore[attr-defined]
    assert "talker and talker/base: Ahoy." in shown[100]
    header = next(line for line in shown[100].splitlines() if line.startswith("talker  "))
    assert header.split() == ["talker", "talker/base"]
    names = [line.partition(":")[0] for line in shown[60].splitlines() if ": " in line]
    assert names[-2:] == ["talker", "talker/base"]


def test_words_are_written_as_they_come_and_each_once(
    opened: Callable[..., Talk], capsys: pytest.CaptureFixture[str]
) -> None:
    talk = opened(sampling=Sampling(20))
    screen = TerminalScreen(Console(width=90, file=sys.stdout, force_terminal=False))
    screen.begin(talk)
    capsys.readouterr()
    grown: list[str] = []

    def told(name: str, text: str) -> None:
        screen.told(name, text)
        grown.append(text)

    turn = talk.ask("Say 1.", told)
    screen.answered(1, turn)
    assert len(grown) == 20
    expected = f"talker: {visible(turn.answers[0].text)}\n(cut after 20 tokens)\n"
    assert capsys.readouterr().out == expected


def test_nothing_a_model_says_commands_the_terminal() -> None:
    said = "a\x1b[2Jb\x07\x9bc\rd\r\ne\tf"
    assert visible(said) == "a\\u001b[2Jb\\u0007\\u009bc\\u000dd\r\ne\tf"
