from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tunebook.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "tunebook"
SOURCES = sorted(SRC.rglob("*.py"))

# Assembled, so that this file does not hold what it forbids.
FORBIDDEN_IN_SRC = [
    r"\bimport pickle\b|\bfrom pickle\b|\bpickle\.(loads?|dumps?)\b",
    r"weights_only\s*=\s*False",
    r"trust_remote_code\s*=\s*True",
    "NotImplemented" + "Error",
    r"\bTO" + r"DO\b|\bFIX" + r"ME\b|coming " + "soon",
]
# The one process that opens a pickle, see docs/decisions/0041.
OPENS_PICKLES = SRC / "models" / "unpickle.py"
FORBIDDEN_ANYWHERE = [
    r"(?<![\w.])/" + r"work/",
    r"/opt/" + "venv",
    r"(?<![\w<])/ho" + r"me/\w",
    "pypi" + r"\.",
    r"download\.py" + "torch",
    "files\\.python" + "hosted",
]


def tracked_text_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    # In one, a git that refuses to list it fails: the rules would else hold for no file.
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = []
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and b"\0" not in path.read_bytes()[:4096]:
            files.append(path)
    return files


def test_no_source_file_is_over_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): n
        for path in SOURCES
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


@pytest.mark.parametrize("pattern", FORBIDDEN_IN_SRC)
def test_source_is_free_of(pattern: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == []


def test_one_file_opens_pickles_as_weights_only_and_nobody_imports_it() -> None:
    called = {
        path: re.findall(r"\btorch\.load\b[^)]*\)?", path.read_text(encoding="utf-8"))
        for path in SOURCES
    }
    assert [path for path in SOURCES if called[path]] == [OPENS_PICKLES]
    assert ["weights_only=True" in call for call in called[OPENS_PICKLES]] == [True]
    # Nor under another name, such as `from torch import load`.
    other = re.compile(r"from torch(\.serialization)? import .*\bload\b|serialization\.load\b")
    assert [p.name for p in SOURCES if other.search(p.read_text(encoding="utf-8"))] == []
    imports = re.compile(
        r"import tunebook\.models\.unpickle|from tunebook\.models(\.unpickle)? import .*"
    )
    found = [m for p in SOURCES for m in imports.findall(p.read_text(encoding="utf-8"))]
    assert found == []


def test_no_process_of_ours_imports_from_the_working_folder() -> None:
    started = re.compile(r"\[sys\.executable, (?!\"-[PI]\")")
    found = [p.name for p in SOURCES if started.search(p.read_text(encoding="utf-8"))]
    assert found == []


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    pattern = re.compile("|".join(FORBIDDEN_ANYWHERE))
    found = []
    for path in tracked_text_files():
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


def test_the_reading_side_never_imports_torch() -> None:
    modules = ["tunebook.cli.main", *(f"tunebook.cli.{verb}" for verb in VERBS)]
    for part in ("book", "pages", "recipe", "watch"):
        modules += [
            ".".join(path.relative_to(SRC.parent).with_suffix("").parts)
            for path in sorted((SRC / part).glob("*.py"))
            if path.stem != "__init__"
        ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "heavy = {'torch', 'transformers', 'peft'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_imports_no_verb() -> None:
    code = (
        "import sys; from tunebook.cli.main import main; main(['--help'])\n"
        "loaded = [m for m in sys.modules if m.startswith('tunebook.cli.')]\n"
        "sys.exit(0 if loaded == ['tunebook.cli.main'] else str(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_module(verb: str) -> None:
    assert importlib.util.find_spec(f"tunebook.cli.{verb}") is not None


def test_every_command_line_module_is_a_verb_or_helps_one() -> None:
    text = "\n".join(p.read_text(encoding="utf-8") for p in (SRC / "cli").glob("*.py"))
    helpers = [p.stem for p in (SRC / "cli").glob("*.py") if p.stem not in {*VERBS, "__init__"}]
    assert [name for name in helpers if name != "main" and f"cli.{name}" not in text] == []
