"""Tables of runs in Markdown, as people keep them in a notebook, with what they wrote around them.

A table begins with a row of column names over a rule and ends at a blank line; rules and remarks
may stand between its rows. A line `* NAME` begins the author's words on the run of that name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunebook.errors import DataError, UsageError
from tunebook.imports.found import Found, ImportedRun
from tunebook.units import shorten

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "name": ("run_name", "run", "name", "experiment", "exp"),
    "model": ("model", "model_sz", "model_size", "base", "base_model"),
    "method": ("method",),
    "seed": ("seed",),
    "train.effective_batch_size": ("effective_batch_size", "batch_size", "batch_sz", "batch", "bs"),
    "train.epochs": ("epochs", "n_epochs", "epoch", "num_train_epochs"),
    "train.optimizer": ("optimizer", "opt"),
    "train.learning_rate": ("learning_rate", "lr", "peak_lr"),
    "train.min_lr": ("min_lr",),
    "train.warmup_fraction": ("warmup_fraction", "warmup", "warmup_ratio"),
    "train.weight_decay": ("weight_decay", "w_dcy", "wd", "decay"),
    "train.max_grad_norm": ("max_grad_norm", "grad_clip", "clip"),
    "lora.rank": ("rank", "lora_rank", "r"),
    "lora.alpha": ("alpha", "lora_alpha"),
    "val_loss": ("val_loss", "eval_loss", "validation_loss", "loss"),
    "train_loss": ("train_loss", "training_loss"),
    "perplexity": ("perplexity", "perplex", "ppl", "val_perplexity"),
    "judge": ("judge", "judge_score", "llm_eval", "gpt_eval", "gpt4_eval", "gemini_eval"),
    "time": ("time", "duration"),
}
"""Names of columns by what they hold, the likeliest first."""

RESULTS = ("val_loss", "train_loss", "perplexity", "judge")
_OPTIMIZERS = {"adw": "adamw", "adamw": "adamw", "sgd": "sgd", "adamw_8bit": "adamw_8bit"}
_METHODS = ("full", "lora", "qlora", "relora")

_LONGEST_LINE, _LONGEST_CELL = 4_000, 1_000
"""Letters; longer ones are the author's words, and are held against no pattern that goes back."""
_MOST_COUNTED = 1 << 53

_NUMBER = r"\d++(?:\.\d*+)?|\.\d++"
_ROW = re.compile(r"^\s*\|(.*)$")
_RULE_CELL = re.compile(r":?-+:?")
_UNKNOWN = re.compile(r"^(-+|–|—|\?|n/?a|none)?$", re.IGNORECASE)
_BULLET = re.compile(r"^\*\s+\**`?([^\s:*`]++)`?\**+\s*+:?\s*+$")
_WORDS_END = re.compile(r"^(#|-{3,}\s*$|\*\s|\||[A-Z][\w ]*:\s*$)")
_MODEL = re.compile(r"^[\s*]*+Model Name:\s*+(\S+)\s*\(([^()]++)\)", re.IGNORECASE)
_BASE_SCORE = re.compile(rf"^\s*Pretrained score:\s*+({_NUMBER})\s*+$", re.IGNORECASE)
_SIZE = re.compile(r"\(([^()]+)\)")
_TIME = re.compile(rf"^(?:([A-Za-z]\w*+)\s*+\()?\s*+({_NUMBER})\s*+\)?\s*+([a-z]*)$")
_TOOK = re.compile(rf"completed in ({_NUMBER}) (second|minute|hour)s?(?: on (\w+))?", re.IGNORECASE)
_SECONDS = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600}


@dataclass
class _Table:
    """A table as it stands: the line it begins at, its column names and its rows of cells."""

    line: int
    names: list[str]
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


@dataclass
class _Page:
    """The parts of a page; `models` and `scores` are by what stands in brackets, such as 355M."""

    tables: list[_Table] = field(default_factory=list)
    words: dict[str, list[str]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


def _is_rule(line: str) -> bool:
    """Tell whether a line is the rule under a table's head, in time that grows with its length."""
    cells = line.strip().removeprefix("|").split("|")
    last = cells.pop().strip()
    if not cells or (last and not _RULE_CELL.fullmatch(last)):
        return False
    return all(_RULE_CELL.fullmatch(cell.strip()) for cell in cells)


def has_table(text: str) -> bool:
    """Tell whether a text holds a table in Markdown."""
    lines = text.splitlines()
    return any(_ROW.match(a) and _is_rule(b) for a, b in zip(lines, lines[1:], strict=False))


def read_markdown(text: str, overrides: Mapping[str, str]) -> Found:
    """Read every row of every table that names runs; DataError where there is none.

    What is not understood is told in `not_read`, and how the rest was understood in `notes`.
    """
    page = _split(text)
    reader = _Reader(page, overrides, _unit_of_time(text))
    for one in page.tables:
        reader.read_table(one)
    if not reader.runs:
        raise DataError(
            f"none of its {len(page.tables)} tables has a column for the name of a run and one "
            f"for a result ({', '.join(RESULTS)}); name them with --column name=COLUMN"
        )
    return Found(
        "Markdown table",
        tuple(reader.runs.values()),
        reader.columns,
        tuple(reader.not_read),
        tuple(dict.fromkeys(reader.notes)),
        "\n".join(page.rest).strip(),
    )


def _split(text: str) -> _Page:
    page, table, run, size = _Page(), None, None, ""
    lines = text.splitlines()
    names = _names_in(lines)
    for number, line in enumerate(lines):
        after = lines[number + 1] if number + 1 < len(lines) else ""
        if table is None and _ROW.match(line) and _is_rule(after):
            table, run = _Table(number + 1, [c.strip("*` ") for c in _cells(line)]), None
            page.tables.append(table)
            continue
        if table is not None and line.strip():
            if _is_rule(line):
                continue
            if _ROW.match(line):
                table.rows.append((number + 1, _cells(line)))
                continue
        elif table is not None:
            table = None
        brief = line if len(line) <= _LONGEST_LINE else ""
        bullet = _BULLET.match(brief)
        if bullet and bullet.group(1) in names:
            run = bullet.group(1)
            page.words.setdefault(run, [])
            continue
        if run is not None and _WORDS_END.match(line):
            run = None
        if found := _MODEL.match(brief):
            size = found.group(2)
            page.models.setdefault(size, found.group(1))
        if size and (score := _BASE_SCORE.match(brief)):
            page.scores[size] = float(score.group(1))
        (page.rest if run is None else page.words[run]).append(line)
    return page


def _names_in(lines: Sequence[str]) -> set[str]:
    return {cell.strip("*` ") for line in lines if _ROW.match(line) for cell in _cells(line)[:1]}


def _cells(line: str) -> list[str]:
    bare = re.split(r"(?<!\\)\|", line.strip().removeprefix("|"))
    cells = [cell.strip().replace("\\|", "|") for cell in bare]
    return cells[:-1] if cells and not cells[-1] else cells


def _unit_of_time(text: str) -> str | None:
    """Find the unit that the page gives its times in, if it is one only."""
    units = {found.group(2).lower() for found in _TOOK.finditer(text)}
    return units.pop() if len(units) == 1 else None


class _Reader:
    """Turns rows into runs and keeps account of what was understood."""

    def __init__(self, page: _Page, overrides: Mapping[str, str], unit: str | None) -> None:
        self.page, self.overrides, self.unit = page, overrides, unit
        self.runs: dict[str, ImportedRun] = {}
        self.columns: dict[str, str] = {}
        self.not_read: list[str] = []
        self.notes: list[str] = []
        for key in overrides:
            if key not in SYNONYMS:
                raise UsageError(f"there is no field {key}; --column takes {', '.join(SYNONYMS)}")

    def read_table(self, table: _Table) -> None:
        """Read the rows of one table, if it is one of runs."""
        columns = self._columns(table)
        if "name" not in columns or not set(RESULTS) & columns.keys():
            self.not_read.append(f"the table at line {table.line}, which names no runs or results")
            return
        self.columns |= {key: table.names[place] for key, place in columns.items()}
        for line, cells in table.rows:
            if len(cells) < len(table.names):
                raise DataError(
                    f"line {line} has {len(cells)} cells and its table {len(table.names)} columns"
                )
            run = self._read_row(line, cells, columns, table.names)
            if run.name in self.runs:
                raise DataError(f"line {line}: a second row names the run {run.name}")
            self.runs[run.name] = run

    def _columns(self, table: _Table) -> dict[str, int]:
        plain = [name.lower().replace(" ", "_") for name in table.names]
        found: dict[str, int] = {}
        for key, synonyms in SYNONYMS.items():
            if key in self.overrides:
                if self.overrides[key] in table.names:
                    found[key] = table.names.index(self.overrides[key])
                continue
            place = next((plain.index(name) for name in synonyms if name in plain), None)
            if place is not None and table.names[place] not in self.overrides.values():
                found[key] = place
        return found

    def _read_row(
        self, line: int, cells: Sequence[str], columns: Mapping[str, int], names: Sequence[str]
    ) -> ImportedRun:
        plain = [cell.replace("**", "").strip("`_ ") for cell in cells]
        name = plain[columns["name"]]
        if not name:
            raise DataError(f"line {line}: the row names no run")
        settings: dict[str, Any] = {}
        reported: dict[str, Any] = {}
        other = {
            names[place]: plain[place]
            for place in range(len(names))
            if place not in columns.values() and not _UNKNOWN.match(plain[place])
        }
        for key, place in columns.items():
            text = plain[place]
            if key == "name":
                continue
            value = None if _UNKNOWN.match(text) else self._value(key, text)
            if value is None and not _UNKNOWN.match(text):
                other[names[place]] = text
                self.not_read.append(f"line {line}, {names[place]} of {name}: {shorten(text, 80)}")
            elif key == "time":
                reported |= value or {}
            elif key in RESULTS:
                reported |= {} if value is None else {key: value}
            else:
                settings[key] = value
        if remark := " ".join(plain[len(names) :]).strip():
            other["remark"] = remark
            self.notes.append(f"what stands beside the row of {name} is kept as a remark: {remark}")
        self._tidy(name, settings, reported)
        words = self.page.words.get(name, [])
        if took := _TOOK.search("\n".join(words)):
            reported.setdefault("seconds", float(took.group(1)) * _SECONDS[took.group(2).lower()])
            reported |= {"device": took.group(3)} if took.group(3) else {}
        return ImportedRun(name, settings, other, reported=reported, words="\n".join(words).strip())

    def _value(self, key: str, text: str) -> Any:
        if len(text) > _LONGEST_CELL:
            return None
        if key == "model":
            return self._model(text)
        if key == "time":
            return self._time(text)
        if key == "method":
            return text.lower() if text.lower() in _METHODS else None
        if key == "train.optimizer":
            return _OPTIMIZERS.get(text.lower())
        try:
            number = float(text)
        except ValueError:
            return None
        # A loss may be NaN, of a run that diverged; a setting and e to a loss cannot be all things.
        if (key not in RESULTS and not math.isfinite(number)) or (
            key == "perplexity" and number <= 0
        ):
            return None
        if key in ("seed", "train.effective_batch_size", "lora.rank"):
            return int(number) if number.is_integer() and abs(number) < _MOST_COUNTED else None
        return number

    def _model(self, text: str) -> str:
        size = _SIZE.search(text)
        full = self.page.models.get(size.group(1)) if size else None
        if full is None:
            return text
        self.notes.append(f"the model {text} is {full}, by its size in brackets")
        return full

    def _time(self, text: str) -> dict[str, Any] | None:
        found = _TIME.match(text)
        if found is None:
            return None
        device, number, unit = found.group(1), float(found.group(2)), found.group(3) or self.unit
        if unit is None or unit.rstrip("s") not in _SECONDS:
            return None
        if not found.group(3):
            self.notes.append(
                f"times without a unit are {unit}s, as where the page says `completed in`"
            )
        if not math.isfinite(number):
            return None
        known = {"seconds": number * _SECONDS[unit.rstrip("s") or "s"]}
        return known | ({"device": device} if device else {})

    def _tidy(self, name: str, settings: dict[str, Any], reported: dict[str, Any]) -> None:
        warmup = settings.get("train.warmup_fraction")
        if warmup is not None and warmup >= 1:
            settings["train.warmup_steps"] = int(settings.pop("train.warmup_fraction"))
        if settings.get("lora.rank") is not None:
            settings.setdefault("method", "lora")
            self.notes.append("a run with a rank is one of method lora")
        loss, ppl = reported.get("val_loss"), reported.get("perplexity")
        if loss is not None and ppl is not None and abs(math.log(ppl) - loss) > 0.01:
            self.notes.append(f"{name}: its perplexity {ppl:g} is not e to its loss {loss:g}")
        for size, full in self.page.models.items():
            if settings.get("model") == full and size in self.page.scores:
                reported["base_judge"] = self.page.scores[size]
                self.notes.append(
                    f"the pretrained score of {full}, {self.page.scores[size]:g}, is what the "
                    f"judge of column {self.columns.get('judge', 'judge')} gave the untouched model"
                )
