"""Try what somebody brings that runs, in a bounded process: chat templates, patterns, expressions.

The sandbox that templates are rendered in keeps them from files and from Python, and not from
`range(99999) ** 2`; a pattern may go back and forth for ever over sixty letters, and ten that each
make ten letters of one fill the memory.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunebook.errors import ModelError, TunebookError
from tunebook.models.find import EMBEDDED_FOLDER
from tunebook.units import shorten

SECONDS = 30  # above the other: a template may have to wait for a processor
CPU_SECONDS = 8
START_SECONDS = 300
MEMORY_BYTES = 1 << 30
_TRIAL = Path(__file__).with_name("trial.py")
# Not the post-processor: it names words that the trial's tokenizer does not have.
_PARTS = ("normalizer", "pre_tokenizer", "decoder")
# transformers takes every key of special_tokens_map.json for a setting of the tokenizer, and
# processors and other programs read chat_template.json.
_TEMPLATE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.json")
_MAX_FILE_BYTES = 1 << 30
_REPEATS = re.compile(r"[*+{?]")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


def refuse_endless(folder: Path, model: str) -> None:
    """Raise ModelError for a chat template or a pattern that does not end within its limits.

    All templates are tried together in a process, the patterns of each file in another; what comes
    with tunebook is known. TunebookError when such a process cannot be started.
    """
    if folder == EMBEDDED_FOLDER:
        return
    templates = read_templates(folder)
    if templates and (wrong := _trial(templates, None)) is not None:
        raise ModelError(
            f"model {model!r}: its chat template was tried on a few short messages and {wrong}; "
            f"take it out of {folder}, and use a plain template such as `template: chat`"
        )
    for path in _tokenizer_files(folder, model):
        patterns = _read_patterns(path, model)
        if patterns is not None and (wrong := _trial((), patterns)) is not None:
            raise ModelError(
                f"model {model!r}: the patterns in {path} were tried on a few short texts and "
                f"{wrong}; use another model, or its tokenizer from where it was first"
            )


def refuse_endless_expressions(
    expressions: Sequence[str], names: Sequence[str], whose: str
) -> None:
    """Raise ModelError where regular expressions are not held against names within the limits.

    `whose` begins the sentence. TunebookError when the process cannot be started.
    """
    repeating = tuple(each for each in expressions if _REPEATS.search(each))
    if repeating and (wrong := _trial((), None, repeating, tuple(names))) is not None:
        raise ModelError(
            f"{whose} was tried on the names of the model's modules and {wrong}; give a list of "
            "names, or all-linear"
        )


def read_templates(folder: Path) -> tuple[str, ...]:
    """Give every chat template that transformers may hold of a folder, each once.

    There may be several: by name in a list, and in files of their own. What is no text is left
    out: whoever loads the tokenizer says what is wrong with it.
    """
    found: list[str] = []
    files = [folder / "chat_template.jinja", *folder.glob("additional_chat_templates/*.jinja")]
    for path in files:
        if path.is_file():
            try:
                found.append(path.read_text(encoding="utf-8"))
            except (ValueError, OSError):
                continue
    for name in _TEMPLATE_FILES:
        found.extend(_texts(_settings(folder / name).get("chat_template")))
    return tuple(dict.fromkeys(found))


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, OSError, RecursionError):
        return {}  # whoever loads the tokenizer says what is wrong with it
    return found if isinstance(found, dict) else {}


def _texts(value: object) -> Iterator[str]:
    """Yield the templates of a setting: one text, some by name, or a list of such."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for text in value.values() if isinstance(text, str))
    elif isinstance(value, list):
        for one in value:
            if isinstance(one, (str, dict)):
                yield from _texts(one)


def _tokenizer_files(folder: Path, model: str) -> list[Path]:
    """Give the files of which transformers takes one as the tokenizer, by its own version."""
    others = _settings(folder / "tokenizer_config.json").get("fast_tokenizer_files")
    names = [str(name) for name in others] if isinstance(others, list) else []
    for name in names:
        if name != Path(name).name:
            raise ModelError(
                f"model {model!r}: tokenizer_config.json names {shorten(name)!r}, which is "
                f"no file of {folder}; fetch the model anew"
            )
    return [folder / name for name in dict.fromkeys(["tokenizer.json", *names])]


def _read_patterns(path: Path, model: str) -> str | None:
    """Give the parts of a tokenizer that have patterns, as JSON; None where none has."""
    if not path.is_file():
        return None
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ModelError(f"model {model!r}: {path} is over 1 GiB, so it is no tokenizer")
    raw = path.read_bytes()
    # A key may be written with escapes; without any, this spares reading a large vocabulary.
    if not any(sign in raw for sign in (b"Regex", b"Replace", b"Prepend", b"\\u")):
        return None
    try:
        found = json.loads(raw)
    except RecursionError:
        raise ModelError(f"model {model!r}: {path} is nested too deeply to be one") from None
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    parts: dict[str, Any] = {key: found.get(key) for key in _PARTS}
    text = json.dumps(parts)
    return text if '"Regex"' in text or _may_grow(parts) else None


def _may_grow(parts: dict[str, Any]) -> bool:
    """Tell whether a part puts a longer text in the place of a shorter one, or a long one first.

    What is done to a text twice over may be done forty times, each of which may double it.
    """
    normalizer = parts.get("normalizer")
    steps = normalizer.get("normalizers") if isinstance(normalizer, dict) else None
    kinds = [
        str(step.get("type"))
        for step in (steps if isinstance(steps, list) else ())
        if isinstance(step, dict) and step.get("type") != "Replace"
    ]
    if len(set(kinds)) < len(kinds):
        return True
    left: list[Any] = list(parts.values())
    while left:
        one = left.pop()
        if isinstance(one, list):
            left.extend(one)
        elif isinstance(one, dict):
            left.extend(one.values())
            pattern = one.get("pattern")
            before = pattern.get("String") if isinstance(pattern, dict) else pattern
            after = one.get("content", one.get("prepend"))
            if len(str(after or "")) > max(len(str(before or "")), 1):
                return True
    return False


@lru_cache(maxsize=64)
def _trial(
    templates: tuple[str, ...],
    patterns: str | None,
    expressions: tuple[str, ...] = (),
    names: tuple[str, ...] = (),
) -> str | None:
    """Say what went wrong with either in a process of its own, None when nothing did."""
    asked = {
        "paths": [os.path.abspath(path) for path in sys.path if path],
        "templates": templates,
        "tokens": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "", "unk_token": ""},
        "patterns": None if patterns is None else json.loads(patterns),
        "expressions": expressions,
        "names": names,
        "cpu_seconds": CPU_SECONDS,
        "memory_bytes": MEMORY_BYTES,
    }
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    # What a pattern takes is what one thread takes.
    environment |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", str(_TRIAL)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
        )
    except OSError as error:
        raise _not_started(error.strerror or str(error)) from None
    with child:
        return _converse(child, json.dumps(asked))


def _converse(child: subprocess.Popen[str], asked: str) -> str | None:
    """Ask a trial, and give what it says; its clock runs from when it says that it begins."""
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    start = _end_after(START_SECONDS, child)
    try:
        child.stdin.write(asked)
        child.stdin.close()
        began = child.stdout.readline()
    except BrokenPipeError:
        began = ""
    finally:
        start.cancel()
    if not began:
        said = child.stderr.read().strip().splitlines()
        raise _not_started(said[-1] if said else f"it ended with {child.wait()}")
    if (missing := json.loads(began)["missing"]) is not None:
        raise _not_started(missing)
    late = _end_after(SECONDS, child)
    answer = child.stdout.read()
    code = child.wait()
    in_time = late.is_alive()
    late.cancel()
    if code == 0:
        wrong: str | None = json.loads(answer)["wrong"]
        return wrong
    if not in_time:
        return f"did not come to an end in {SECONDS} seconds"
    if code in (-9, -24):  # SIGKILL, SIGXCPU
        return f"did not come to an end in {CPU_SECONDS} seconds"
    return f"broke the process it was tried in ({code})"


def _end_after(seconds: float, child: subprocess.Popen[str]) -> threading.Timer:
    timer = threading.Timer(seconds, child.kill)
    timer.daemon = True
    timer.start()
    return timer


def _not_started(reason: str) -> TunebookError:
    """Say that nothing was learnt of the model: what is amiss is around it."""
    return TunebookError(
        "the process that tries a model's chat template and patterns could not be started with "
        f"{sys.executable} ({' '.join(reason.split())[:200]}); this says nothing of the model: "
        "mend that Python environment, `pip install --force-reinstall jinja2 tokenizers` in it"
    )
