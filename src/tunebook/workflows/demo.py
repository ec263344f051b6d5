"""The whole story on the embedded model and data: no network, no GPU, no account."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunebook.book.atomic import write_text
from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.records import Outcome, RunSummary, Sample
from tunebook.workflows.launch import Watcher
from tunebook.workflows.notebook import run_outcomes
from tunebook.workflows.train import train

DATA = Path(__file__).parent.parent / "embedded" / "data" / "sayings.txt"

RUN_FILE = """\
# The demo's run file: another `model:` line, or other data, is the real thing.
name: {name}
model: tunebook/tiny
data:
  - path: {data}
max_seq_len: 128
validation: {{fraction: 0.1}}
train:
  epochs: 4
  effective_batch_size: 16
  learning_rate: 1e-3
  warmup_fraction: 0.1
evaluate:
  every: 10%
  prompts: ["hope:", "bread:", "virus:"]
  max_new_tokens: 24
notebook:
  hypothesis: A few hundred sayings are enough to teach the tiny base their form in a minute.
  predict: [val_loss < base_val_loss, perplexity < 20, no non_finite]
"""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo made."""

    summary: RunSummary
    before: tuple[Sample, ...]
    after: tuple[Sample, ...]
    outcomes: tuple[Outcome, ...]
    page: Path
    book: Path


def demo(book: Path, watch: Watcher) -> Demo:
    """Make a book (or use the one there), train the next demo run in it, and read it back."""
    if not (book / "tunebook.yaml").exists():
        create_book(book)
    number = 1
    while (book / "runs" / f"demo_{number}").exists():
        number += 1
    run_file = book / f"demo_{number}.yaml"
    write_text(run_file, RUN_FILE.format(name=f"demo_{number}", data=DATA))
    summary = train(run_file, book=book, watch=watch)
    run = RunFolder(book, summary.name)
    samples = read_events(run).samples
    return Demo(
        summary,
        tuple(s for s in samples if s.step == 0),
        tuple(s for s in samples if s.step > 0),
        tuple(run_outcomes(book, run)),
        run.notebook_md,
        book,
    )
