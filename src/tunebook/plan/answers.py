"""Read back what carries loss in the rows that were read anew, and hold their answers against it.

Everything is decoded row by row, so it does not matter how labels were made, masked, shifted or
laid out in a batch: the answers are there from their first to their last token, or they are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunebook.data.codec import TextCodec
from tunebook.plan.ends import End, ends, find_text, fresh_rows, squeeze, text_of
from tunebook.plan.subject import Subject, once
from tunebook.records import Finding

_REACH = 2  # tokens an answer may be short of at an end before it counts as another text
_TELLING = 16  # characters from which on a prompt is not in an answer by chance
_WAY_OUT = (
    "look at the row with `tunebook data show`, and say another `template:` or `train_on:`; if the "
    "data is right, please report it"
)


@dataclass(slots=True)
class Answers:
    """Rows by what is wrong with their answers: wholly or partly untrained, or a prompt trained.

    Of an answer in `unwritten` the template itself leaves a part out.
    """

    rows: int = 0
    untrained: list[str] = field(default_factory=list)
    unwritten: list[str] = field(default_factory=list)
    unbegun: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    def finding(self, name: str, rows: list[str], what: str, way_out: str = _WAY_OUT) -> Finding:
        """Write what is wrong with some rows as a finding."""
        return Finding(
            name,
            "refuse",
            f"{len(rows)} of {self.rows} rows that were read anew {what}, as {rows[0]}",
            {"rows": len(rows), "rows_read_anew": self.rows, "examples": rows[:5]},
            way_out,
        )


@once
def read_answers(subject: Subject) -> Answers:
    """Look for every trained answer of the witnesses in the tokens that carry loss."""
    seen = Answers()
    if subject.codec is None or subject.recipe.stage != "sft":
        return seen
    codec = subject.codec
    train_all = subject.recipe.train_on == "all"
    for end in ends(subject):
        if end.window or end.witness.dropped_by is not None or (end.cut and train_all):
            continue
        seen.rows += 1
        target = end.target.copy()
        if train_all and len(target) > 1:
            target[0] = target[1]  # nothing predicts the first token of a row
        runs = _runs(target)
        texts = [text_of(codec, end.ids[a:b]) for a, b in runs]
        written = _written(end, codec, fresh_rows(subject).get(end.id))
        _follow(end, codec, runs, texts, seen, written)
        if not train_all and _says_prompt(end, texts):
            seen.prompts.append(end.id)
    return seen


def _written(end: End, codec: TextCodec, fresh: NDArray[np.int64] | None) -> str | None:
    """Give what a template writes of a row; None where the row is not just that."""
    return text_of(codec, fresh) if fresh is not None and np.array_equal(end.ids, fresh) else None


def _runs(target: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Give the stretches of tokens that carry loss."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], target.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _follow(
    end: End,
    codec: TextCodec,
    runs: list[tuple[int, int]],
    texts: list[str],
    seen: Answers,
    written: str | None,
) -> None:
    """Find every answer in turn in what carries loss, and note the row when one is not there."""
    which = offset = 0
    for message in end.messages:
        if message.role != "assistant" or not message.trained:
            continue
        found = None
        for place in range(which, len(texts)):
            found = find_text(codec, texts[place], message.content, offset if place == which else 0)
            if found is not None:
                which, offset = place, found[1]
                break
        if found is not None:
            continue
        if end.cut and squeeze(message.content).startswith(_last(texts[which:], offset)):
            return  # the row was cut in this answer, or before it
        short_of = _short_of(end, codec, runs[which:], message.content)
        for noted, is_short in zip((seen.unbegun, seen.unended), short_of, strict=True):
            if is_short:
                noted.append(end.id)
        if written is not None and find_text(codec, written, message.content) is None:
            seen.unwritten.append(end.id)
        elif not any(short_of):
            seen.untrained.append(end.id)
        return


def _last(texts: list[str], offset: int) -> str:
    """Give what is left to find: the last text, without what was found in the first."""
    return "" if not texts else texts[-1][offset:] if len(texts) == 1 else texts[-1]


def _short_of(
    end: End, codec: TextCodec, runs: list[tuple[int, int]], answer: str
) -> tuple[bool, bool]:
    """Tell whether an answer lacks only a few tokens at its begin, and at its end."""
    for start, stop in runs:
        for before in range(_REACH + 1):
            for behind in range(_REACH + 1):
                ids = end.ids[max(0, start - before) : stop + behind]
                if (before or behind) and find_text(codec, text_of(codec, ids), answer):
                    return before > 0, behind > 0
    return False, False


def _says_prompt(end: End, texts: list[str]) -> bool:
    said = "".join(texts)
    answers = "".join(squeeze(m.content) for m in end.messages if m.role == "assistant")
    for message in end.messages:
        prompt = squeeze(message.content)
        if message.role == "assistant" and message.trained:
            continue
        if len(prompt) >= _TELLING and prompt in said and prompt not in answers:
            return True
    return False
