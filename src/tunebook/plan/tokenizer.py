"""What the tokenizer makes of a run's rows, for the plan's page and for its checks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunebook.data.codec import TextCodec
from tunebook.errors import TunebookError
from tunebook.plan.result import Tokenizer
from tunebook.plan.rows import Row, batch_rows, sample_ends
from tunebook.plan.subject import Subject

_ANSWER = "An answer."
# Behind its end token a template may write white space, which is a target with `train_on: all`.
_TAIL = 4


def describe_tokenizer(subject: Subject) -> Tokenizer | None:
    """Say which tokenizer and template a run has, and how often its rows train their end."""
    codec, prepared = subject.codec, subject.prepared
    if codec is None:
        return None
    notes = []
    if codec.pad_id is not None and codec.pad_id == codec.eos_id:
        notes.append("the pad token is the end token; rows are laid end to end, so none is padded")
    if prepared is not None and "model" in prepared.template and end_string(subject) is None:
        notes.append("the chat template ends an answer with no special token")
    return Tokenizer(
        name=codec.name,
        vocabulary=codec.vocab_size,
        end_token=end_string(subject),
        end_trained=share_of_ends(subject),
        template=None if prepared is None else prepared.template,
        notes=tuple(notes),
    )


def end_string(subject: Subject) -> str | None:
    """Give the token that ends an answer: the end token, or what the chat template writes there."""
    codec = subject.codec
    if codec is None:
        return None
    if _uses_chat_template(subject):
        return _end_of_template(codec)
    return None if codec.eos_id is None else codec.decode([codec.eos_id])


def share_of_ends(subject: Subject) -> float | None:
    """Give the share of whole rows whose end token is a target, stored or in the micro-batches.

    The smaller of the two counts; None when there is no whole row.
    """
    shares = [_share(subject, rows) for rows in (sample_ends(subject), batch_rows(subject))]
    return min((share for share in shares if share is not None), default=None)


def rows_without_end(subject: Subject, rows: Sequence[Row]) -> tuple[list[Row], int]:
    """Give the whole rows whose end token is no target, and how many whole rows there are."""
    whole = [row for row in rows if row.whole and row.target.any()]
    end = end_string(subject)
    if subject.codec is None or end is None:
        return whole, len(whole)
    ids = subject.codec.encode(end, specials=True)[0]
    return [row for row in whole if not _ends(row, ids)], len(whole)


def _ends(row: Row, ids: Sequence[int]) -> bool:
    trained = np.asarray(row.ids)[np.asarray(row.target)]
    return bool(np.isin(trained[-_TAIL:], ids).any())


def _share(subject: Subject, rows: Sequence[Row]) -> float | None:
    without, n_whole = rows_without_end(subject, rows)
    return 1 - len(without) / n_whole if n_whole else None


def _uses_chat_template(subject: Subject) -> bool:
    built = subject.prepared.built if subject.prepared is not None else ()
    return any(one.renderer.name == "model" for one in built)


def _end_of_template(codec: TextCodec) -> str | None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = codec.render_chat(turns, add_generation_prompt=False)
    except TunebookError:
        # It takes other messages only; what most templates write is then the best guess.
        return None if codec.eos_id is None else codec.decode([codec.eos_id])
    behind = text.rpartition(_ANSWER)[2]
    ends = [(behind.find(s), -len(s), s) for s in codec.special_strings if s and s in behind]
    return min(ends)[2] if ends else None
