"""Keys: what is one is not taken for the name of a variable, and none is said back."""

from __future__ import annotations

import base64
import html
import json
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from judge_server import Act, judge_server, says
from tunebook.cli.main import main
from tunebook.errors import UsageError
from tunebook.evaluate.judge.asking import Judged, Task, judge_tasks
from tunebook.evaluate.judge.client import JudgeError
from tunebook.evaluate.judge.keys import MASK, hide_key, is_variable_name
from tunebook.evaluate.judge.prompts import find_prompt
from tunebook.evaluate.judge.settings import Judge, make_judge

KEY = "sk-CANARY/0123+456=&x"
KEYS = (
    "sk-proj-abcdef0123456789",
    "sk-SECRETSECRET",
    "hf_AbCdEfGhIjKlMnOp0123456789",
    "gsk_0a1b2c3d4e5f6a7b8c9d",
    "AKIA0123456789ABCDEF",
    "a" * 64,
    "two words",
    "A=B",
)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("in_file", [True, False])
def test_a_key_given_for_the_name_of_its_variable_is_refused_and_not_repeated(
    key: str, in_file: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = ["--base-url", "http://127.0.0.1:9/v1", "--judge-model", "m"]
    words = [*url, "--key-env", key]
    if in_file:
        (tmp_path / "judge.yaml").write_text(f"key_env: {json.dumps(key)}\n")
        words = [*url, "--judge", str(tmp_path / "judge.yaml")]
    assert main(["judge", "run_1", *words]) == 2
    out, err = capfd.readouterr()
    assert key not in out + err
    assert key[:8] not in out + err
    assert "is it the key itself?" in err


def test_a_list_of_keys_is_not_repeated_either(tmp_path: Path) -> None:
    file = tmp_path / "judge.yaml"
    file.write_text("base_url: http://127.0.0.1:9/v1\nmodel: m\nkey_env: [sk-SECRETSECRET]\n")
    with pytest.raises(UsageError) as error:
        make_judge(file, {})
    assert "SECRET" not in str(error.value)


def test_names_are_names_and_whatever_is_set_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "K",
        "OPENAI_API_KEY",
        "GEMINI_API_KEY_2",
        "my_judge_key",
        "_x",
        "AZURE_KEY_2024_B",
    ):
        assert is_variable_name(name), name
    odd = "hf_AbCdEfGhIjKlMnOp0123456789"
    assert not is_variable_name(odd)
    monkeypatch.setenv(odd, "x")
    assert is_variable_name(odd)


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        KEY.upper(),
        KEY.lower(),
        KEY[:8],
        KEY[:13],
        quote(KEY),
        quote(KEY, safe=""),
        quote(KEY, safe="").lower(),
        quote(KEY, safe="")[:14],
        json.dumps(KEY),
        KEY.replace("/", "\\/"),
        KEY.replace("/", "\\u002f").replace("-", "\\u002d").replace("+", "\\u002B"),
        html.escape(KEY),
        KEY.encode().hex(),
        base64.b64encode(KEY.encode()).decode(),
        base64.b64encode(KEY.encode()).decode()[:11],
        base64.urlsafe_b64encode(b"u:" + KEY.encode()).decode(),
        base64.b64encode(b"\xff" + KEY.encode() + b"\xff" * 5).decode(),
        base64.b64encode(b"Bearer " + KEY.encode()).decode(),
        KEY + KEY,
    ],
)
def test_a_key_is_taken_out_in_whatever_form_it_comes_back(form: str) -> None:
    shown = hide_key(KEY, f"bad <{form}>, score: 5")
    assert shown.startswith("bad <")
    assert shown.endswith(", score: 5")
    assert MASK in shown
    for part in ("CANARY", "canary", "0123", "53595", form[6:14]):
        assert part not in shown


def test_other_words_stay_and_a_short_key_takes_no_words_with_it() -> None:
    said = "sk- is how keys begin; an EMPTY answer: empty"
    assert hide_key(KEY, said) == said
    assert hide_key("EMPTY", said) == said.replace("EMPTY", MASK)


def test_much_text_is_looked_through_at_once() -> None:
    began = time.monotonic()
    assert MASK not in hide_key("a" * 40 + "b", "b" * (1 << 20))
    assert hide_key("a" * 40 + "b", "a" * (1 << 16)).replace(MASK, "") == ""
    assert time.monotonic() - began < 5


def test_no_form_of_a_key_is_in_what_is_said_of_an_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    forms = " ".join((KEY[:10], quote(KEY, safe=""), KEY.upper()))
    task = Task("final", "q", "h", "Why?", "Because.", "item-1")
    for status in (200, 400, 401):
        said = json.dumps({"error": {"message": forms}}).encode()
        act = says(f"{forms} score: 5") if status == 200 else Act(status, said)
        found: list[str] = []

        def done(_task: object, one: Judged, found: list[str] = found) -> None:
            found.append(one.reply)

        with judge_server(lambda prompt, nth, act=act: act) as server:
            judge = Judge(base_url=server.base_url, model="m", key_env="MY_KEY", retries=0)
            try:
                judge_tasks([task], judge, find_prompt("default"), done)
                shown = found[0]
            except JudgeError as error:
                shown = str(error)
        assert MASK in shown
        assert "canary" not in shown.lower()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--base-url", "http://127.0.0.1:9/v1", "--key-env", "NOT_SET"], "NOT_SET holds no key"),
        (["--base-url", "http://metadata.google.internal/v1"], "where clouds keep credentials"),
    ],
)
def test_what_needs_no_model_is_refused_before_one_is_looked_for(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", "no_such_run", "--judge-model", "m", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_judge_that_wants_a_key_and_was_given_none_asks_for_the_name_of_its_variable() -> None:
    task = Task("final", "q", "h", "Why?", "Because.", "item-1")
    with judge_server(lambda prompt, nth: Act(401, b"{}")) as server:
        judge = Judge(base_url=server.base_url, model="m", retries=0)
        with pytest.raises(JudgeError, match="give key_env, the name of the environment variable"):
            judge_tasks([task], judge, find_prompt("default"), lambda *_: None)
