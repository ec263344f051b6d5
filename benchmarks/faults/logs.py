"""Logged runs with one injected fault or none, packed into one file per split and substrate.

A file is an .npz (numpy and JSON, no pickle); `read_logs` needs no torch. What is rounded: losses,
norms and ratios keep 13 bits, losses of single examples and documents 11 bits (.002 at 3 nats).
Time and memory of a step are left out, and validations carry no hash of their examples.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from tunebook.records import ExampleLoss, StepRecord, ValidationRecord
from tunebook.watch.run_log import RunFacts, RunLog

FOLDER = Path(__file__).resolve().parent / "logs"


@dataclass(frozen=True)
class LoggedRun:
    """A run and its label; `fault` is how it was broken, `kind` the verdict that is right.

    All of fault, kind, strength (just_visible, clear, gross) and the steps are None of a healthy
    run. The fault is in the run from `first_step` to `last_step`, both included; `ids` are the
    examples that are the fault, where single ones are.
    """

    name: str
    split: str
    substrate: str
    seed: int
    fault: str | None
    kind: str | None
    strength: str | None
    first_step: int | None
    last_step: int | None
    ids: tuple[str, ...]
    log: RunLog


def read_split(split: str, folder: Path = FOLDER) -> list[LoggedRun]:
    """Read all runs of a split (tuning, scoring or confirming), substrate by substrate."""
    return [run for path in sorted((folder / split).glob("*.npz")) for run in read_logs(path)]


# Columns of a file with the type they are kept as; names begin with what a row of them is.
_COLUMNS = {
    "id_source": "<u2",
    "id_row": "<i4",
    "id_targets": "<i4",  # as first seen; `example_targets` has the difference to it
    "id_length": "<i4",
    "step_number": "<i4",
    "step_epoch": "<f4",
    "step_loss": "<f4",
    "step_canary": "<f4",
    "step_learning_rate": "<f4",
    "step_grad_norm": "<f4",
    "step_update_ratio": "<f4",
    "step_changed_fraction": "<f4",
    "step_flags": "<u1",
    "step_padding": "<i4",
    "step_padding_targets": "<i4",
    "step_examples": "<i4",
    "example_id": "<u2",
    "example_loss": "<f2",
    "example_targets": "<i4",
    "example_length": "<i4",
    "validation_step": "<i4",
    "validation_loss": "<f8",
    "validation_low": "<f4",
    "validation_high": "<f4",
    "validation_bytes": "<i4",
    "document_id": "<u2",
    "document_targets": "<i4",
    "document_loss": "<u2",  # half floats as whole numbers, less those of the validation before
}
_CLIPPED, _APPLIED, _HAS_RATIO, _HAS_CANARY = 1, 2, 4, 8
_ID = re.compile(r"(.+)#(\d+)")


class _Ids:
    """Example ids as numbers, in order of their first use."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.rows: list[tuple[int, int]] = []
        self.usual: list[tuple[int, int]] = []
        self.sources: dict[str, int] = {}

    def number(self, name: str, targets: int, length: int) -> int:
        if name not in self.numbers:
            found = _ID.fullmatch(name)
            if found is None:
                raise ValueError(f"example id {name!r} is not <source>#<row>")
            source = self.sources.setdefault(found[1], len(self.sources))
            self.numbers[name] = len(self.rows)
            self.rows.append((source, int(found[2])))
            self.usual.append((targets, length))
        return self.numbers[name]


def write_logs(path: Path, runs: Sequence[LoggedRun]) -> None:
    """Pack the runs of one split and substrate into a file."""
    ids = _Ids()
    flat: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    heads = []
    for run in runs:
        for step in run.log.steps:
            _add_step(flat, ids, step)
        heads.append(
            {
                **{f.name: getattr(run, f.name) for f in fields(run) if f.name != "log"},
                "facts": asdict(run.log.facts),
                "steps": len(run.log),
                "validations": _add_validations(flat, ids, run.log.validations),
            }
        )
    flat["id_source"], flat["id_row"] = [s for s, _ in ids.rows], [r for _, r in ids.rows]
    flat["id_targets"], flat["id_length"] = [t for t, _ in ids.usual], [n for _, n in ids.usual]
    if len(ids.rows) > 2**16:
        raise ValueError(f"{len(ids.rows)} example ids are more than two bytes can tell apart")
    arrays = {name: _packed(name, flat[name]) for name in _COLUMNS}
    head = json.dumps({"sources": list(ids.sources), "runs": heads}, allow_nan=False)
    arrays["head"] = np.frombuffer(head.encode(), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    # np.savez_compressed can only deflate, which is a fifth larger; np.load reads both.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as out:
        for name, array in arrays.items():
            held = io.BytesIO()
            np.save(held, array, allow_pickle=False)
            # One date for all: the same runs are the same bytes.
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = zipfile.ZIP_LZMA
            out.writestr(info, held.getvalue())


def _add_step(flat: dict[str, list[Any]], ids: _Ids, step: StepRecord) -> None:
    ratio, canary = step.update_ratio, step.canary_loss
    for name, value in {
        "number": step.step,
        "epoch": step.epoch,
        "loss": step.loss,
        "canary": np.nan if canary is None else canary,
        "learning_rate": step.learning_rate,
        "grad_norm": step.grad_norm,
        "update_ratio": np.nan if ratio is None else ratio,
        "changed_fraction": np.nan if step.changed_fraction is None else step.changed_fraction,
        "flags": _CLIPPED * step.clipped
        + _APPLIED * step.applied
        + _HAS_RATIO * (ratio is not None)
        + _HAS_CANARY * (canary is not None),
        "padding": step.padding_tokens,
        "padding_targets": step.padding_target_tokens,
        "examples": len(step.examples),
    }.items():
        flat[f"step_{name}"].append(value)
    for example, length in zip(step.examples, step.lengths, strict=True):
        number = ids.number(example.id, example.target_tokens, length)
        targets, usual_length = ids.usual[number]
        flat["example_id"].append(number)
        flat["example_loss"].append(_per_token(example))
        flat["example_targets"].append(example.target_tokens - targets)
        flat["example_length"].append(length - usual_length)


def _add_validations(
    flat: dict[str, list[Any]], ids: _Ids, validations: Sequence[ValidationRecord]
) -> list[dict[str, Any]]:
    """Add columns; gives what is left of each validation for the head."""
    left: list[dict[str, Any]] = []
    names: list[str] = []
    before = np.zeros(0, dtype=np.uint16)
    for record in validations:
        low, high = record.interval or (np.nan, np.nan)
        flat["validation_step"].append(record.step)
        flat["validation_loss"].append(record.loss)
        flat["validation_low"].append(low)
        flat["validation_high"].append(high)
        flat["validation_bytes"].append(record.scored_bytes)
        now = [document.id for document in record.per_document]
        losses = np.array([_per_token(d) for d in record.per_document], dtype="<f2").view("<u2")
        if now != names:
            names, before = now, np.zeros(len(now), dtype=np.uint16)
            flat["document_id"] += [ids.number(d.id, 0, 0) for d in record.per_document]
            flat["document_targets"] += [d.target_tokens for d in record.per_document]
            left.append({"documents": len(now)})
        else:
            left.append({})
        flat["document_loss"] += (losses - before).tolist()
        before = losses
        left[-1] |= {
            "target_tokens": record.target_tokens,
            "examples": [record.examples, record.documents],
            "sources": {
                name: [_finite(loss), record.per_source_target_tokens.get(name, 0)]
                for name, loss in record.per_source.items()
            },
        }
    return left


def read_logs(path: Path) -> list[LoggedRun]:
    """Read the runs of a file."""
    with np.load(path, allow_pickle=False) as found:
        head = json.loads(found["head"].tobytes())
        flat = {name: _unpacked(name, found[name]) for name in _COLUMNS}
    # Halves of floats are told apart by eye only as floats.
    flat["example_loss"] = flat["example_loss"].astype(np.float64)
    names = [
        f"{head['sources'][source]}#{row}"
        for source, row in zip(flat["id_source"], flat["id_row"], strict=True)
    ]
    reader = _Reader(flat, names)
    return [_read_run(reader, made) for made in head["runs"]]


def _read_run(reader: _Reader, made: dict[str, Any]) -> LoggedRun:
    # Logs may hold facts that no detector asks for any more.
    known = {field.name for field in fields(RunFacts)}
    facts = {name: value for name, value in made.pop("facts").items() if name in known}
    for name in ("resumed_after", "validation_overlap"):
        facts[name] = None if facts[name] is None else tuple(facts[name])
    steps = list(reader.steps(made.pop("steps")))
    validations = list(reader.validations(made.pop("validations")))
    made["ids"] = tuple(made["ids"])
    return LoggedRun(**made, log=RunLog(steps, validations, RunFacts(**facts)))


class _Reader:
    """Takes records off the columns, in the order they were added."""

    def __init__(self, flat: dict[str, np.ndarray], names: list[str]) -> None:
        number = flat["example_id"]
        flat["example_targets"] = flat["example_targets"] + flat["id_targets"][number]
        flat["example_length"] = flat["example_length"] + flat["id_length"][number]
        self._lists = {name: column.tolist() for name, column in flat.items()}
        self._document_loss = flat["document_loss"]
        self._names = names
        self._at = dict.fromkeys(("step", "example", "validation", "document", "loss"), 0)

    def _take(self, unit: str, n: int) -> slice:
        start = self._at[unit]
        self._at[unit] += n
        return slice(start, start + n)

    def steps(self, n: int) -> Iterator[StepRecord]:
        rows, lists = self._take("step", n), self._lists
        columns = {k.removeprefix("step_"): v[rows] for k, v in lists.items() if "step_" in k[:5]}
        for line in zip(*columns.values(), strict=True):
            values = dict(zip(columns, line, strict=True))
            here = self._take("example", values["examples"])
            names = [self._names[i] for i in lists["example_id"][here]]
            targets, lengths = lists["example_targets"][here], lists["example_length"][here]
            losses = lists["example_loss"][here]
            sources: dict[str, int] = {}
            for name, length in zip(names, lengths, strict=True):
                source = name.rpartition("#")[0]
                sources[source] = sources.get(source, 0) + length
            flags, total = values["flags"], sum(targets)
            yield StepRecord(
                step=values["number"],
                epoch=values["epoch"],
                loss=values["loss"],
                loss_sum=values["loss"] * total,
                target_tokens=total,
                tokens=sum(lengths),
                padding_tokens=values["padding"],
                learning_rate=values["learning_rate"],
                grad_norm=values["grad_norm"],
                clipped=bool(flags & _CLIPPED),
                applied=bool(flags & _APPLIED),
                update_ratio=values["update_ratio"] if flags & _HAS_RATIO else None,
                changed_fraction=values["changed_fraction"] if flags & _HAS_RATIO else None,
                examples=tuple(
                    ExampleLoss(name, loss * count, count)
                    for name, loss, count in zip(names, losses, targets, strict=True)
                ),
                lengths=tuple(lengths),
                sources=sources,
                canary_loss=values["canary"] if flags & _HAS_CANARY else None,
                seconds=0.0,
                memory_bytes=None,
                padding_target_tokens=values["padding_targets"],
            )

    def validations(self, left: list[dict[str, Any]]) -> Iterator[ValidationRecord]:
        rows, lists = self._take("validation", len(left)), self._lists
        columns = [lists[f"validation_{k}"][rows] for k in ("step", "loss", "low", "high", "bytes")]
        names: list[str] = []
        targets: list[int] = []
        bits = np.zeros(0, dtype=np.uint16)
        for line, more in zip(zip(*columns, strict=True), left, strict=True):
            step, loss, low, high, scored_bytes = line
            if "documents" in more:
                here = self._take("document", more["documents"])
                names = [self._names[i] for i in lists["document_id"][here]]
                targets = lists["document_targets"][here]
                bits = np.zeros(len(names), dtype=np.uint16)
            bits = bits + self._document_loss[self._take("loss", len(names))]
            losses = bits.view("<f2").astype(np.float64).tolist()
            yield ValidationRecord(
                step=step,
                loss=loss,
                loss_sum=loss * more["target_tokens"],
                target_tokens=more["target_tokens"],
                examples=more["examples"][0],
                documents=more["examples"][1],
                scored_bytes=scored_bytes,
                examples_hash="",
                interval=None if np.isnan(low) and np.isnan(high) else (low, high),
                per_source={
                    name: np.nan if loss is None else loss
                    for name, (loss, _) in more["sources"].items()
                },
                seconds=0.0,
                per_source_target_tokens={k: n for k, (_, n) in more["sources"].items()},
                per_document=tuple(
                    ExampleLoss(name, loss * count, count)
                    for name, loss, count in zip(names, losses, targets, strict=True)
                ),
            )


def _per_token(example: ExampleLoss) -> float:
    return example.loss_sum / max(example.target_tokens, 1)


def _finite(loss: float) -> float | None:
    return round(loss, 4) if np.isfinite(loss) else None


def _packed(name: str, values: Iterable[Any]) -> np.ndarray:
    """Give a column as planes of bytes, which compress much better than whole numbers."""
    kind = np.dtype(_COLUMNS[name])
    with np.errstate(over="ignore"):  # a loss beyond the type is infinite
        column = np.asarray(list(values), dtype=np.float64 if kind.kind == "f" else kind)
        column = column.astype(kind)
    if kind == np.dtype("<f4"):
        column = _rounded(column)
    return np.ascontiguousarray(column.view(np.uint8).reshape(-1, kind.itemsize).T)


def _unpacked(name: str, planes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(planes.T).view(_COLUMNS[name])[:, 0]


def _rounded(column: np.ndarray) -> np.ndarray:
    """Round to 13 bits (1 in 16,000), so that the rest of each number is 0; inf and NaN stay."""
    bits = column.view("<u4")
    return np.where(np.isfinite(column), ((bits + 0x400) & 0xFFFFF800).view("<f4"), column).astype(
        "<f4"
    )
