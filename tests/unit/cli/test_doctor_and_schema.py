from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tunebook.cli.main import main
from tunebook.workflows import doctor


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "_ASK_DEVICES", 'print(\'[{"name": "cpu", "threads": 2}]\')')


def test_doctor_prints_lines_to_paste(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["device"] == "cpu, 2 threads"
    assert lines["book"] == "none here"
    assert lines["network"].startswith("never used: HF_HUB_OFFLINE")
    assert {"tunebook", "python", "torch", "transformers", "peft", "memory", "disk"} <= set(lines)


def test_doctor_json_has_the_book_and_its_cache(
    quick: None, book: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (book / ".tunebook" / "cache").mkdir()
    (book / ".tunebook" / "cache" / "shard").write_bytes(b"x" * 100)
    monkeypatch.chdir(book)
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["book"], report["cache_bytes"]) == (str(book), 100)


@pytest.mark.parametrize(
    ("child", "problem"),
    [
        ("raise ImportError('no torch here')", "ImportError: no torch here"),
        ("print('nonsense')", "torch could not be asked"),
    ],
)
def test_doctor_says_why_devices_are_unknown(
    quick: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, child: str, problem: str
) -> None:
    monkeypatch.setattr(doctor, "_ASK_DEVICES", child)
    report = doctor.examine(tmp_path)
    assert report.devices is None
    assert report.devices_problem == problem
    assert any(problem in line for line in doctor.report_lines(report))


def test_doctor_does_not_wait_for_ever(
    quick: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def too_slow(*args: object, timeout: float, **more: object) -> None:
        raise subprocess.TimeoutExpired("python", timeout)

    monkeypatch.setattr(doctor.subprocess, "run", too_slow)
    assert doctor.examine(tmp_path).devices_problem == "torch did not answer within 120 s"


def test_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "tunebook run file"


def test_schema_is_written_into_the_book(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(book / "runs")
    assert main(["schema", "--write"]) == 0
    written = json.loads((book / ".tunebook" / "run.schema.json").read_text(encoding="utf-8"))
    assert written["title"] == "tunebook run file"


def test_schema_needs_a_book_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["schema", "--write"]) == 2
    assert "no book here" in capsys.readouterr().err
