"""A run behind a server of others: made ready once, started, told, and ended with its launcher."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from test_release import train_in
from test_train_flow import start, tunebook

from tunebook.book.evaluations import read_log
from tunebook.book.places import RunFolder, create_book, served_dir
from tunebook.cli.main import main
from tunebook.errors import UsageError
from tunebook.workflows import tied
from tunebook.workflows.serve import choose_engine

# Says what it was asked, answers /health until the test is done with it, and breaks off.
FAKE_VLLM = """#!{python}
import http.server, json, os, sys, threading
seen = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "offline": os.environ["HF_HUB_OFFLINE"]}}
open("{seen}", "w").write(json.dumps(seen))
if "{words}" == "at once":
    sys.exit("no such device")
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        threading.Timer(0.5, lambda: (print("out of memory", flush=True), os._exit(7))).start()
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer((sys.argv[sys.argv.index("--host") + 1], port), Health).serve_forever()
"""


@pytest.fixture(scope="module")
def served_book(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A book with an adapter to serve."""
    book = create_book(tmp_path_factory.mktemp("served") / "book")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(book)
        few = {"train": {"max_steps": 6, "learning_rate": 3e-2}, "checkpoint": {"every": 3}}
        train_in(book, "run_1", tiny_model, method="lora", template="chat", **few)
    return book


@pytest.fixture
def fake_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Give a function that puts a command vllm on the path; it writes what it was asked."""

    def make(words: str) -> Path:
        seen = tmp_path / "seen.json"
        script = tmp_path / "bin" / "vllm"
        script.parent.mkdir()
        script.write_text(FAKE_VLLM.format(python=sys.executable, seen=seen, words=words))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
        return seen

    return make


@pytest.mark.usefixtures("fresh_is_here")
def test_a_run_is_made_ready_once_and_the_server_of_others_is_told_of(
    served_book: Path,
    fake_vllm: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(served_book)
    seen = fake_vllm("in a while")
    words = ["serve", "run_1", "--engine", "vllm", "--port", "0", "--host", "0.0.0.0"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    asked = json.loads(seen.read_text())
    name, host, port = asked["argv"][1], asked["argv"][3], asked["argv"][5]
    assert (asked["argv"][0], name, host, asked["offline"]) == ("serve", "run_1", "0.0.0.0", "1")
    folder = Path(asked["cwd"]) / name
    assert folder.parent.parent == served_dir(served_book)
    assert (folder / "MANIFEST.json").is_file()
    url = f"http://127.0.0.1:{port}/v1"
    assert f"address     {url}\n" in out
    assert f"tunebook judge RUN --base-url {url} --judge-model run_1\n" in out
    assert "asks        in template chat" in out
    assert "context     256 tokens" in out
    assert "--host 0.0.0.0: anyone who reaches port " in err
    assert "tunebook: the server ended by itself with 7: out of memory (all it said" in err
    # Nothing of it is a release of the run.
    assert not (served_book / "runs" / "run_1" / "release.json").exists()
    # The same weights are not made twice, and damaged ones are.
    before = (folder / "MANIFEST.json").stat().st_ino
    assert main(words) == 1
    assert (folder / "MANIFEST.json").stat().st_ino == before
    assert "writing merged weights" not in capsys.readouterr().err
    (folder / "model.safetensors").write_bytes(b"")
    assert main(words) == 1
    assert "model.safetensors is damaged" in (said := capsys.readouterr().err)
    assert "writing merged weights" in said
    # What is served is not cleaned away, what was is.
    with FileLock(folder.parent / "serving-1.lock"):
        assert main(["clean"]) == 0
        assert folder.is_dir()
    assert main(["clean", "--dry-run"]) == 0
    assert "served copy" in capsys.readouterr().out
    assert main(["clean"]) == 0
    assert not folder.exists()


@pytest.mark.usefixtures("fresh_is_here")
def test_a_server_that_does_not_come_up_says_why(
    served_book: Path,
    fake_vllm: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(served_book)
    fake_vllm("at once")
    assert main(["serve", "run_1", "--engine", "vllm", "--port", "0"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "vllm ended with 1 before it answered: no such device (all it said is in " in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run_2"], "has no run `run_2`"),
        (["run_1", "--weights", "step-9"], "run run_1 has no step-9 weights"),
        (["run_1", "--weights", "base"], "run run_1 has no base weights"),
        (["run_1", "--engine", "vllm"], "there is no command vllm here"),
        (["run_1", "--engine", "vllm", "--device", "cpu"], "vllm chooses its device by itself"),
        (["run_1", "--host", "nowhere.invalid"], "cannot listen on nowhere.invalid port 8000"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    served_book: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(served_book)
    monkeypatch.setenv("PATH", str(served_book))  # no vllm there, whatever else is installed
    assert main(["serve", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_before_anything_is_made(
    served_book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(served_book)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", "run_1", "--port", str(taken.getsockname()[1])]) == 2
    assert "(Address already in use); name another with --port" in capsys.readouterr().err


def test_auto_takes_vllm_on_cuda_alone_and_names_the_extra_that_is_missing(
    fake_vllm: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm("in a while")
    pytest.importorskip("openai")
    assert choose_engine("auto", "cpu") == "transformers"
    assert choose_engine("auto", "cuda") == "vllm"
    monkeypatch.setattr("transformers.utils.import_utils.is_serve_available", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'tunebook\[serve\]'"):
        choose_engine("auto", "cpu")


@contextmanager
def tied_to_a_launcher(code: str) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """Run Python under `tied`, with the process it became."""
    command = [sys.executable, "-P", tied.__file__, sys.executable, "-c", code]
    launched = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert launched.stdout is not None
    pid = int(launched.stdout.readline())
    yield launched, psutil.Process(pid)
    launched.stdout.close()


def test_a_command_ends_with_its_launcher_and_its_helpers_with_it() -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(helper.pid, flush=True); time.sleep(60)"
    )
    with tied_to_a_launcher(code) as (launched, helper):
        assert launched.stdin is not None
        launched.stdin.close()
        assert launched.wait(10) == 128 + signal.SIGTERM
        helper.wait(10)


@pytest.mark.slow
def test_a_command_that_will_not_end_is_killed() -> None:
    code = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    with tied_to_a_launcher(code) as (launched, _):
        assert launched.stdin is not None
        launched.stdin.close()
        assert launched.wait(20) == 128 + signal.SIGKILL


@contextmanager
def serving(book: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Start `tunebook serve` and read what it says once the server answers."""
    process = start(book, "serve", *words, "--port", "0")
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        # The last word is on standard error, when all else was said.
        heard = [process.stderr.readline()]
        while "Ctrl-C ends it" not in heard[-1]:
            assert heard[-1], "".join(heard)
            heard.append(process.stderr.readline())
        said = dict[str, str]()
        while "judge" not in said:
            name, _, text = process.stdout.readline().partition(" ")
            said[name] = text.strip()
        yield process, said
    finally:
        process.kill()
        process.communicate()


def is_gone(url: str, seconds: float = 20) -> bool:
    """Wait until nobody listens at an address any more."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)):
                return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_a_served_run_says_what_it_says_in_a_talk_and_judges_others(served_book: Path) -> None:
    import openai

    messages: list[Any] = [{"role": "user", "content": "Say red."}]
    words = ["chat", "run_1", "--json", "--temperature", "0", "--max-new-tokens", "12"]
    talked = subprocess.run(
        [sys.executable, "-m", "tunebook", *words],
        cwd=served_book,
        input="Say red.\nAnd blue?\n",
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = (json.loads(line)["answers"][0] for line in talked.stdout.splitlines())
    with serving(served_book, "run_1") as (process, said):
        client = openai.OpenAI(base_url=said["address"], api_key="none", max_retries=0)
        assert [one.id for one in client.models.list()] == ["run_1"]
        greedy: dict[str, Any] = {"model": said["model"], "temperature": 0, "max_tokens": 12}
        found = client.chat.completions.create(messages=messages, **greedy)
        text = found.choices[0].message.content or ""
        assert text.strip() == first["text"]
        parts = client.chat.completions.create(messages=messages, stream=True, **greedy)
        assert "".join(part.choices[0].delta.content or "" for part in parts) == text
        # The answer is handed back as it came, as every client does.
        messages += [
            {"role": "assistant", "content": text},
            {"role": "user", "content": "And blue?"},
        ]
        found = client.chat.completions.create(messages=messages, **greedy)
        assert (found.choices[0].message.content or "").strip() == second["text"]
        # The same words without the template, written out.
        prompt = "User: Say red.\nAssistant:"
        whole = client.completions.create(prompt=prompt, **greedy)
        assert whole.choices[0].text == text
        streamed = client.completions.create(prompt=prompt, stream=True, **greedy)
        assert "".join(part.choices[0].text for part in streamed) == text
        drawn = {
            client.completions.create(prompt=prompt, **greedy | {"temperature": 1.0}, seed=seed)
            .choices[0]
            .text
            for seed in range(4)
        }
        assert len(drawn) > 1  # a temperature is not passed over

        judged = served_book / "judge.yaml"
        judged.write_text(f"base_url: {said['address']}\nmodel: run_1\nmax_tokens: 8\nretries: 0\n")
        few = ["--n", 3, "--max-new-tokens", 8, "--prompt", "notebook-002"]
        done = tunebook(served_book, "judge", "run_1", "--judge", judged, *few)
        # It was asked, and a model that learned nothing gives no score: counted, never a 0.
        assert done.returncode == 1
        assert "no answer of base got a score (3 x reply cut off at max_tokens)" in done.stderr
        logs = RunFolder(served_book, "run_1").evaluations.glob("judge-*.jsonl")
        rows = [row for log in logs for row in read_log(log)]
        assert len(rows) == 6
        for row in rows:
            assert (row["value"], row["fault"]) == (None, "reply cut off at max_tokens")
            assert row["completion_tokens"] > 0

        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert is_gone(said["address"])


@pytest.mark.slow
def test_a_server_dies_with_a_launcher_that_is_killed(served_book: Path) -> None:
    with serving(served_book, "run_1", "--weights", "best") as (process, said):
        assert said["model"] == "run_1-best"
        process.kill()
        process.wait()
        assert is_gone(said["address"])
