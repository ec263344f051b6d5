from __future__ import annotations

import csv
import io
import json
import math

from tunebook.pages.table import (
    JSON_KEYS,
    cell_text,
    csv_table,
    json_table,
    markdown_table,
    plain_table,
    summary_json,
)
from tunebook.records import RunSummary

PARENT = RunSummary("a", "finished", "m", "sft", "full", val_loss=2.0, config={"lora.rank": 8})
CHILD = RunSummary(
    "b",
    "finished",
    "m",
    "sft",
    "lora",
    val_loss=math.nan,
    verdicts=("non_finite",),
    config={"lora.rank": 16, "extends": "a"},
)
BOOK = {"a": PARENT, "b": CHILD}
COLUMNS = ["name", "method", "lora.rank", "val_loss", "verdicts"]


def test_changed_settings_are_bold_and_results_are_not() -> None:
    lines = markdown_table([PARENT, CHILD], COLUMNS, BOOK).splitlines()
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert cells == ["b", "**lora**", "**16**", "NaN", "non_finite"]
    assert "**" not in lines[2]


def test_json_keeps_its_names_and_says_nan_and_unknown() -> None:
    first, second = json.loads(json_table([PARENT, CHILD], ["name", "lora.rank"]))
    assert list(first)[:16] == [
        "name",
        "state",
        "model",
        "stage",
        "method",
        "parents",
        "train_loss",
        "val_loss",
        "perplexity",
        "judge",
        "device",
        "peak_memory_bytes",
        "verdicts",
        "outcome",
        "started",
        "seconds",
    ]
    assert first["judge"] is None
    assert second["val_loss"] == "NaN"
    assert second["lora.rank"] == 16
    assert set(json.loads(summary_json(PARENT))) == set(JSON_KEYS)


def test_csv_reads_back_as_plain_values() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table([CHILD], COLUMNS))))
    assert rows == [
        {
            "name": "b",
            "method": "lora",
            "lora.rank": "16",
            "val_loss": "NaN",
            "verdicts": "non_finite",
        }
    ]


def test_plain_lines_are_aligned() -> None:
    lines = plain_table([PARENT, CHILD], ["name", "val_loss"]).splitlines()
    assert lines == ["name  val_loss", "a        2.000", "b          NaN"]


def test_cells_read_as_people_write() -> None:
    assert cell_text("seconds", 8.4) == "8.4 s"
    assert cell_text("peak_memory_bytes", 1 << 30) == "1 GiB"
    assert cell_text("started", "2026-11-21T03:06:55.898Z") == "2026-11-21 03:06"
    assert cell_text("val_loss", None) == ""
    assert cell_text("packing", True) == "true"
