"""Read run files, sweep files and other tools' run files that are broken in every way (D1).

    python benchmarks/fuzz/run_files.py --count 10000 --seed 0

Valid ones are harmed byte by byte and value by value; others are generated with the keys of a run
file and anything as their values; a few are bombs: aliases, depth, size, numbers of a million
digits.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

from harness import Target, Wordless, arguments, fuzz
from mutate import ODD_TEXTS, mutate_bytes, mutate_value

VALID = """\
name: run_1
model: tunebook/tiny
stage: sft
method: lora
data:
- path: rows.jsonl
  weight: 2.0
  columns: {prompt: question}
  filters: [short, {repeated: {share: 0.2}}]
template: alpaca
max_seq_len: 256
validation: {fraction: 0.1, document: row}
lora: {rank: 8, alpha: 16, dropout: 0.05, target_modules: all-linear}
train:
  epochs: 2
  effective_batch_size: 8
  micro_batch_size: auto
  learning_rate: 5e-5
  schedule: cosine
  warmup_fraction: 0.1
evaluate: {every: 10%, prompts: [Hello], canary: 4}
checkpoint: {every: epoch, keep: 2}
notebook:
  hypothesis: It learns.
  predict: [val_loss < base_val_loss]
  tags: [first]
accept: [random-base]
seed: 7
"""
SWEEP = """\
name: rates
run: run.yaml
over:
  lora.rank: [2, 8]
  train.learning_rate: {low: 1e-4, high: 3e-4, log: true}
search: random
budget: {trials: 4}
"""
AXOLOTL = """\
base_model: a/b
datasets:
- path: rows.jsonl
  type: alpaca
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
sequence_len: 512
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 3
learning_rate: 0.0002
lr_scheduler: cosine
val_set_size: 0.05
"""
BASES = {"run": VALID, "sweep": SWEEP, "convert": AXOLOTL}


def _bombs() -> list[str]:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return [
        "\n".join(lines),
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
        "[" * 100_000,
        "a: " + "{b: " * 50_000,
        "- " * 30_000,
        "x" * (1 << 20) + ": 1",
        "x: " + "y" * (1 << 20),
        "seed: " + "9" * 500_000,
        "seed: 0x" + "f" * 300_000,
        "train: {learning_rate: 1e" + "9" * 1000 + "}",
        "k: |\n" + "  line\n" * 100_000,
        "".join(f"k{n}: {n}\n" for n in range(60_000)),
        "name: x\nname: y\n",
        "? [a, b]\n: c\n",
        "? {a: b}\n: c\n",
        "%YAML 1.1\n---\nname: yes\n",
        "%TAG ! tag:x,2000:\n---\n!x y\n",
        "--- a\n--- b\n",
        "!!python/object/apply:os.system ['touch canary']\n",
        "name: !!python/name:os.system\n",
        "name: !!binary aGVsbG8=\n",
        "name: &n x\nmodel: *m\n",
        "<<: {a: 1}\n<<: {b: 2}\n",
        "\t- a\n",
        "#" * 900_000,
        "'" * 900_000,
        "&a " * 1000,
        'a: "\\U00110000"\n',
        'a: "\\ud800"\n',
        "extends: bomb.yaml\n",
        "extends: ../../../../etc/passwd\n",
        "extends: /dev/zero\n",
        "extends: .\n",
        "extends: [run.yaml]\n",
    ]


BOMBS = _bombs()
KEYS = sorted({line.split(":")[0].strip("- ") for line in VALID.splitlines() if ":" in line})


def draw(pool: list[Any], rng: random.Random) -> dict[str, Any]:
    """Make a run file."""
    kind = rng.choices(list(BASES), (8, 2, 2))[0]
    base = BASES[kind]
    way = rng.random()
    if way < 0.45:
        raw = mutate_bytes(base.encode(), rng)
    elif way < 0.85:
        from ruamel.yaml import YAML

        tree: Any = YAML(typ="safe", pure=True).load(base)
        for _ in range(rng.choice((1, 1, 2, 4))):
            tree = mutate_value(tree, rng.choice(pool), rng)
        raw = _dump(tree)
    elif way < 0.995:
        some = {rng.choice(KEYS): rng.choice(pool) for _ in range(rng.randrange(7))}
        raw = _dump(some)
    else:
        raw = rng.choice(BOMBS).encode("utf-8", "surrogatepass")
    overrides = []
    if rng.random() < 0.2:
        overrides = [f"{rng.choice(KEYS)}={rng.choice(ODD_TEXTS)}", rng.choice(ODD_TEXTS)]
    return {"kind": kind, "raw": raw, "overrides": overrides}


def _dump(tree: Any) -> bytes:
    """Write values as JSON, which is YAML but for the words of its numbers."""
    return json.dumps(tree, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def run(place: Path, case: dict[str, Any]) -> str:
    """Read it as the command would."""
    from tunebook.errors import RunFileError, TunebookError
    from tunebook.recipe.load import dump_resolved, load_run_file, read_resolved
    from tunebook.recipe.sweep import load_sweep
    from tunebook.workflows.convert import convert

    path = place / "bomb.yaml"
    path.write_bytes(case["raw"])
    (place / "run.yaml").write_text(VALID, encoding="utf-8")
    try:
        if case["kind"] == "convert":
            convert(path)
        elif case["kind"] == "sweep":
            load_sweep(path)
        else:
            found = load_run_file(path, case["overrides"])
            # What was taken can be written down and read again as it was.
            text = dump_resolved(found.recipe, {})
            if read_resolved(text)[0] != found.recipe:
                raise Wordless(f"resolved.yaml reads otherwise: {case['raw'][:200]!r}")
        return f"{case['kind']}: taken"
    except TunebookError as error:
        if (place / "canary").exists():
            raise Wordless("the canary was written") from None
        named = isinstance(error, RunFileError) and not case["overrides"]
        # What it extends is named where that is wrong.
        named &= str(place) not in str(error)
        if named and case["kind"] == "run":
            raise Wordless(f"no file is named: {error}") from None
        raise


TARGET = Target(
    "run-files",
    "A run file, sweep file or another tool's run file is read or refused in one sentence that "
    "names the file",
    ("D1",),
    draw,
    run,
    mended=(
        "A whole number of thousands of hex digits ended in a ValueError when it was shown.",
        "A value of another kind in a file of axolotl or TRL ended `convert` in a TypeError.",
        "An override or key of thousands of characters was repeated whole.",
        "A regular expression of a run file that goes back and forth for ever held a plan up; it "
        "is ended by name.",
        "A run of thousands of millions of steps filled the memory of a plan; ten millions are "
        "the most.",
    ),
)

if __name__ == "__main__":
    import tunebook.workflows.convert  # noqa: F401

    sys.exit(fuzz(TARGET, arguments(__doc__, 10_000)))
