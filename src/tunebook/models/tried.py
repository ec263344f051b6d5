"""Try what a tokenizer brings that runs: its chat template and its patterns, in a bounded process.

The sandbox that templates are rendered in keeps them from files and from Python, and not from
`range(99999) ** 2`; a pattern may go back and forth for ever over sixty letters.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunebook.errors import ModelError
from tunebook.models.find import EMBEDDED_FOLDER

SECONDS = 10
CPU_SECONDS = 8
MEMORY_BYTES = 1 << 30
_TRIAL = Path(__file__).with_name("trial.py")
# Not the post-processor: it names words that the trial's tokenizer does not have.
_PARTS = ("normalizer", "pre_tokenizer", "decoder")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
_MAX_FILE_BYTES = 1 << 30


def refuse_endless(folder: Path, model: str) -> None:
    """Raise ModelError for a chat template or a pattern that does not end within its limits.

    Each text is tried once in a process; what comes with tunebook is known.
    """
    if folder == EMBEDDED_FOLDER:
        return
    template = read_template(folder)
    if template is not None and (wrong := _trial(template, None)) is not None:
        raise ModelError(
            f"model {model!r}: its chat template was tried on a few short messages and {wrong}; "
            f"take it out of {folder}, and use a plain template such as `template: chat`"
        )
    patterns = _read_patterns(folder / "tokenizer.json", model)
    if patterns is not None and (wrong := _trial(None, patterns)) is not None:
        raise ModelError(
            f"model {model!r}: the patterns in {folder / 'tokenizer.json'} were tried on a few "
            f"short texts and {wrong}; use another model, or its tokenizer from where it was first"
        )


def read_template(folder: Path) -> str | None:
    """Give the chat template of a folder, from whichever file transformers would take it.

    None where there is none, or none that is one text.
    """
    for name in _TEMPLATE_FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
            found = text if name.endswith(".jinja") else json.loads(text).get("chat_template")
        except (ValueError, OSError, AttributeError, RecursionError):
            continue  # whoever loads the tokenizer says what is wrong with it
        if isinstance(found, str):
            return found
    return None


def _read_patterns(path: Path, model: str) -> str | None:
    """Give the parts of a tokenizer that have patterns, as JSON; None where none has."""
    if not path.is_file():
        return None
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ModelError(f"model {model!r}: {path} is over 1 GiB, so it is no tokenizer")
    raw = path.read_bytes()
    if b'"Regex"' not in raw:
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
    return text if '"Regex"' in text else None


@lru_cache(maxsize=64)
def _trial(template: str | None, patterns: str | None) -> str | None:
    """Say what went wrong with one of the two in a process of its own, None when nothing did."""
    asked = {
        "template": template,
        "tokens": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "", "unk_token": ""},
        "patterns": None if patterns is None else json.loads(patterns),
        "cpu_seconds": CPU_SECONDS,
        "memory_bytes": MEMORY_BYTES,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_TRIAL)],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            # What a pattern takes is what one thread takes.
            env={"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
    except subprocess.TimeoutExpired:
        return f"did not come to an end in {SECONDS} seconds"
    if done.returncode == 0:
        wrong: str | None = json.loads(done.stdout)
        return wrong
    if done.returncode in (-9, -24):  # SIGKILL, SIGXCPU
        return f"did not come to an end in {CPU_SECONDS} seconds"
    return f"broke the process it was tried in ({done.returncode})"
