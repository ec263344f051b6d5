"""Write every special token of every tokenizer into a user's text, in many ways (must 4).

    python benchmarks/fuzz/special_tokens.py --seed 0 --write

Each special token of each tokenizer stands in a question, an answer, a fact or a system message:
alone, at an edge, doubled, inside of another, glued to words, in capitals, in full width, broken by
a noncharacter. The row is written by every plain template and by a chat template, tokenized as for
training, and asked as a prompt. It must have as many control tokens as the same row with a plain
word there; what is an exact special token must still be read in it as text, and be counted. The
embedded tokenizer, two made from it that normalize what they read, and those of the data folder
beside the project (`--data`) are tried. `--count N` takes N cases drawn by the seed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from harness import record

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TEMPLATES = ("alpaca", "lines", "qa", "chat", "persona", "none", "model", "text")
PLACES = ("system", "user", "knowledge", "assistant")
CHAT = (
    "{{ bos_token or '' }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
WAYS = {
    "alone": "{0}",
    "before": "{0} and a word",
    "behind": "a word and {0}",
    "within": "one{0}two",
    "doubled": "{0}{0} {0}",
    "lines": "a\n{0}\nb",
    "inside": "{1}{0}{2}",
    "spaced": "a   {0}   b",
    "cut": "x {1}\ufdd0{2} y",
    "joined": "x {1}\u200b{2} {0}",
    "capitals": "say {3} now",
    "wide": "say {4} now",
}
"""How a token stands in a text: 0 is the token, 1 and 2 its halves, 3 and 4 look like it."""
EXACT = ("alone", "before", "behind", "within", "doubled", "lines", "inside", "spaced", "cut")


def tokenizers(folder: Path, data: Path) -> Iterator[tuple[str, Any]]:
    """Load every tokenizer, each with a chat template."""
    from tunebook.models.find import EMBEDDED_FOLDER
    from tunebook.models.tokenizer import load_tokenizer

    found = {"tunebook/tiny": EMBEDDED_FOLDER}
    for place in (data / "tokenizers", data / "models"):
        if place.is_dir():
            found |= {path.name: path for path in sorted(place.iterdir()) if path.is_dir()}
    for name, path in found.items():
        yield name, load_tokenizer(str(_with_template(path, folder / path.name)))
    for name in ("NFKC", "Lowercase"):
        made = _with_template(EMBEDDED_FOLDER, folder / name)
        _normalize(made / "tokenizer.json", name)
        yield f"tiny, {name}", load_tokenizer(str(made))


def _with_template(source: Path, target: Path) -> Path:
    from tunebook.models.find import EMBEDDED_FOLDER

    target.mkdir()
    shutil.copyfile(EMBEDDED_FOLDER / "config.json", target / "config.json")
    for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json",
                 "merges.txt", "special_tokens_map.json"):  # fmt: skip
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    (target / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    return target


def _normalize(path: Path, kind: str) -> None:
    """Let a tokenizer change what it reads before it looks for special tokens."""
    known = json.loads(path.read_text(encoding="utf-8"))
    known["normalizer"] = {"type": kind}
    for token in known["added_tokens"]:
        token["normalized"] = True
    path.write_text(json.dumps(known), encoding="utf-8")


def texts(special: str) -> dict[str, str]:
    """Write a special token in every way."""
    half = max(1, len(special) // 2)
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in special)
    words = (special, special[:half], special[half:], special.upper(), wide)
    return {way: form.format(*words) for way, form in WAYS.items()}


def example(place: str, text: str) -> Any:
    """Make a talk with a text in one of its places."""
    from tunebook.records import Example, Message

    messages = [Message("user", "Say one."), Message("assistant", "One it is.")]
    if place == "user":
        messages[0] = Message("user", text)
    elif place == "assistant":
        messages[1] = Message("assistant", text)
    else:
        messages.insert(0, Message(place, text))  # type: ignore[arg-type]
    return Example("case", "case", tuple(messages))


def controls_in(codec: Any, renderer: Any, place: str, text: str) -> tuple[Any, Any, list[int]]:
    """Tokenize a talk; gives how it was written, its tokens, and the control tokens that are in it.

    These are counted in the row, in the row as a prompt, and in the text alone as a prompt.
    """
    import numpy as np

    from tunebook.data.tokenize import tokenize

    controls = list(codec.special_ids)
    talk = example(place, text)
    rendered = renderer.render(talk)
    block = tokenize([rendered], codec, train_all=False)
    asked = (block.ids, renderer.prompt_ids(talk), renderer.prompt_ids(text))
    return rendered, block, [int(np.isin(ids, controls).sum()) for ids in asked]


@cache
def renderer_of(codec: Any, template: str) -> Any:
    """Make what writes rows in a template."""
    from tunebook.data.render import choose_renderer

    if template == "text":
        return choose_renderer("none", "text", codec, "cpt")
    return choose_renderer(template, "chat", codec, "sft")


@cache
def expected_of(codec: Any, template: str, place: str) -> list[int]:
    """Count the control tokens of a talk that has a plain word in a place."""
    return controls_in(codec, renderer_of(codec, template), place, "a word")[2]


def try_one(codec: Any, template: str, place: str, way: str, special: str) -> str | None:
    """Say what is wrong with one case; None when the token stayed text and was counted."""
    from tunebook.plan.checks.literal_special_token import strings_in
    from tunebook.plan.rows import Row

    is_text = template == "text"
    renderer = renderer_of(codec, template)
    rendered, block, found = controls_in(codec, renderer, place, texts(special)[way])
    expected = expected_of(codec, template, place)
    if found != expected:
        return f"{found} control tokens in the row, the prompt and the text, not {expected}"
    if way not in EXACT or (template == "model" and rendered.split_specials):
        return None
    if way == "cut" and template != "model":  # the noncharacter is taken out before a chat template
        return None
    # A plain template's rows are counted by the plan, which takes `<s>` at edges of texts only.
    row = Row("case", "case", block.ids, block.target, True)
    sure = special.startswith("<|") or (is_text and way in ("alone", "before", "behind"))
    if template == "model" or (sure and not strings_in(row, codec, frozenset([special]))):
        return "it was not counted"
    return None


def main() -> int:
    """Try every case, or some of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, help="so many cases, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="keep the counts")
    parser.add_argument("--data", type=Path, default=DATA, help="where other tokenizers lie")
    options = parser.parse_args()
    began = time.monotonic()
    wrong: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="specials-") as folder:
        codecs = dict(tokenizers(Path(folder), options.data))
        cases = [
            (name, template, place, way, special)
            for name, codec in codecs.items()
            for special in codec.special_strings
            for template in TEMPLATES
            for place in PLACES
            for way in WAYS
        ]
        n_tokens = sum(len(codec.special_strings) for codec in codecs.values())
        random.Random(options.seed).shuffle(cases)
        cases = cases[: options.count]
        for name, *case in cases:
            said = try_one(codecs[name], *case)
            if said is not None:
                wrong[f"{name}, {case}: {said}"] += 1
    for words in list(wrong)[:40]:
        print(f"FAILED {words}")
    seconds = time.monotonic() - began
    where = "" if options.data.is_dir() else f"; there is no {options.data}"
    print(
        f"special-tokens: {len(cases):,} cases, {len(wrong)} failed: {n_tokens} special tokens of "
        f"{', '.join(codecs)}; {seconds:.0f} s{where}"
    )
    if options.write:
        record("special-tokens", PROMISE, ("4",), len(cases), len(wrong), options.seed, MENDED,
               {"tokenizers": list(codecs), "special_tokens": n_tokens,
                "seconds": round(seconds)})  # fmt: skip
    return 1 if wrong else 0


PROMISE = (
    "A special token that stands in somebody's text, in any row or prompt, is read as text and "
    "counted: no text makes a control token"
)
MENDED: tuple[str, ...] = (
    "A text in capitals or in full width became a control token under a chat template, where the "
    "tokenizer changes what it reads before it looks for special tokens.",
    "A special token as the very first text of a row was not counted by the plan.",
)

if __name__ == "__main__":
    sys.exit(main())
