"""What is installed from a wheel is all of it: it trains and serves pages without the sources."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = sorted(PROJECT["project"]["optional-dependencies"])


def tracked(under: str = ".") -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", under], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_every_file_of_the_package_that_is_no_code_is_declared() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["tunebook"]
    data = [Path(name).relative_to("src/tunebook") for name in tracked("src/tunebook")]
    others = {path for path in data if path.suffix != ".py"}
    package = ROOT / "src" / "tunebook"
    declared = {path.relative_to(package) for each in patterns for path in package.glob(each)}
    assert others
    assert others - declared == set()


def test_the_container_leaves_out_what_is_no_part_of_it() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    recipe = (ROOT / "Dockerfile").read_text("utf-8")
    assert "*" in ignored  # what is not named is not sent
    for line in re.findall(r"^COPY (?!--from)(.+)$", recipe, re.MULTILINE):
        for name in line.split()[:-1]:
            assert f"!{name.rstrip('/')}" in ignored
            assert (ROOT / name).exists()
    assert re.search(r"^USER (?!root)\w+", recipe, re.MULTILINE)
    acts = "\n".join(line for line in recipe.splitlines() if not line.startswith("#"))
    assert not re.search(r"TOKEN|API_KEY|SECRET|PASSWORD", acts)


# --- built and installed ------------------------------------------------------------------------


@dataclass
class Built:
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source archive of what git tracks, and the wheel that is made of that archive."""
    pytest.importorskip("build")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    quiet(sys.executable, "-m", "build", "--outdir", out, source)
    return Built(next(out.glob("*.whl")), next(out.glob("*.tar.gz")))


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new, empty environment with the wheel in it."""
    place = tmp_path_factory.mktemp("venv")
    quiet(sys.executable, "-m", "venv", place)
    # The torch that is here: another may be gigabytes.
    torch = importlib.metadata.version("torch").partition("+")[0]
    limits = place / "limits.txt"
    limits.write_text(f"torch=={torch}\n")
    quiet(place / "bin" / "pip", "install", "--quiet", "-c", limits, built.wheel, timeout=1800)
    return place / "bin"


def quiet(*words: object, timeout: float = 600, cwd: Path | None = None) -> str:
    """Run a program that knows nothing of the sources here, and give what it said."""
    bare = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env=bare,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_wheel_and_archive_hold_the_whole_package_and_no_more(built: Built) -> None:
    wanted = {PurePosixPath(name).relative_to("src") for name in tracked("src/tunebook")}
    with zipfile.ZipFile(built.wheel) as wheel:
        held = {PurePosixPath(name) for name in wheel.namelist()}
    package = {path for path in held if path.parts[0] == "tunebook"}
    assert package == wanted
    assert all(p.parts[0] == "tunebook" or ".dist-info" in p.parts[0] for p in held)
    assert any(path.name == "LICENSE" and ".dist-info" in path.parts[0] for path in held)
    with tarfile.open(built.sdist) as archive:
        names = {PurePosixPath(*PurePosixPath(n).parts[1:]) for n in archive.getnames()}
    assert {PurePosixPath("src") / path for path in wanted} <= names
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"):
        assert PurePosixPath(name) in names
    assert not any(path.parts[:1] == ("tests",) for path in names)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_installed_wheel_trains_the_demo_and_serves_its_pages(
    installed: Path, tmp_path: Path
) -> None:
    program = installed / "tunebook"
    assert quiet(program, "--version", cwd=tmp_path).startswith("tunebook ")
    where = "import tunebook; print(tunebook.__file__)"
    found = Path(quiet(installed / "python", "-c", where, cwd=tmp_path).strip())
    assert found.is_relative_to(installed.parent)
    said = quiet(program, "demo", "--book", "demo-book", cwd=tmp_path)
    assert "run demo_1 finished" in said
    book = tmp_path / "demo-book"
    assert (book / "runs" / "demo_1" / "notebook.md").is_file()
    quiet(program, "release", "demo_1", "out", cwd=book)
    with subprocess.Popen(
        [str(program), "ui", "--port", "0", "--no-token"],
        cwd=book,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            for path, held in (("", "demo_1"), ("runs/demo_1", "demo_1"), ("static/app.css", "{")):
                with urllib.request.urlopen(address + path, timeout=30) as answer:
                    assert answer.status == 200
                    assert held in answer.read().decode()
        finally:
            server.terminate()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_can_be_installed_beside_it(installed: Path, built: Built, extra: str) -> None:
    limits = installed.parent / "limits.txt"
    wanted = f"tunebook[{extra}] @ {built.wheel.as_uri()}"
    quiet(installed / "pip", "install", "--quiet", "--dry-run", "-c", limits, wanted)
