"""What the author expected, fixed before step 1."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from tunebook.book.atomic import write_atomically
from tunebook.book.events import event_files
from tunebook.book.inside import read_inside
from tunebook.book.places import RunFolder
from tunebook.errors import BookError
from tunebook.regular import NotReadable


@dataclass(frozen=True, slots=True)
class Seal:
    """A sealed hypothesis; `intact` is False when the file was changed after it was sealed."""

    hypothesis: str | None
    predictions: tuple[str, ...]
    sealed_at: str | None
    intact: bool


def seal(run: RunFolder, hypothesis: str | None, predictions: Sequence[str]) -> None:
    """Write hypothesis and predictions with their hash; an existing seal is never rewritten.

    BookError when a step has been trained already: then it is too late to predict.
    """
    if run.seal_json.exists():
        return
    if any(b'{"kind":"step"' in path.read_bytes() for path in event_files(run)):
        raise BookError(
            f"run {run.name} has trained already, so its predictions can no longer be sealed; "
            f"restore {run.seal_json} or start a new run"
        )
    body = {
        "hypothesis": hypothesis,
        "predictions": list(predictions),
        "sealed_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    whole = body | {"sha256": _hash(body)}
    write_atomically(
        run.seal_json,
        orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
    )


def read_seal(run: RunFolder) -> Seal | None:
    """Read a run's seal; None when nothing was sealed."""
    try:
        data = read_inside(run.book, run.seal_json)
    except FileNotFoundError:
        return None
    except NotReadable:  # whatever stands there, it is no seal
        return Seal(None, (), None, intact=False)
    try:
        whole = orjson.loads(data)
        body = {key: whole[key] for key in ("hypothesis", "predictions", "sealed_at")}
        hypothesis, sealed_at = body["hypothesis"], body["sealed_at"]
        predictions = tuple(str(text) for text in body["predictions"])
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return Seal(None, (), None, intact=False)
    return Seal(
        hypothesis if isinstance(hypothesis, str) else None,
        predictions,
        sealed_at if isinstance(sealed_at, str) else None,
        intact=whole.get("sha256") == _hash(body),
    )


def _hash(body: Mapping[str, object]) -> str:
    return hashlib.sha256(orjson.dumps(dict(body), option=orjson.OPT_SORT_KEYS)).hexdigest()
