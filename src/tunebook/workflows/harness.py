"""What `tunebook evaluate RUN --harness TASK` does: ask the tasks of lm-eval-harness.

The harness words, asks and scores; tunebook keeps a line per question, so that runs compare item by
item. Needs the extra `harness`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunebook.book.evaluations import EvaluationLog, scores_of, write_result
from tunebook.book.places import open_run
from tunebook.errors import DataError, UsageError
from tunebook.records import Estimate, Evaluation, ItemScore
from tunebook.statistics.compare import DEFAULT_MARGIN, compare_many
from tunebook.statistics.estimate import mean_estimate, proportion_estimate
from tunebook.statistics.items import hash_keys
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.speakers import Key, Speaker, ask_each, open_run_to_ask
from tunebook.workflows.weights import BASE

_SEED = 0


@dataclass(frozen=True, slots=True)
class _Tasks:
    """A task, or those of a group, with the key of each question by task and place."""

    by_name: Mapping[str, Any]
    keys: Mapping[tuple[str, int], Key]
    metric: str
    lower_is_better: bool


def run_harness(
    name: str,
    book: Path,
    task: str,
    *,
    include: Path | None = None,
    weights: Sequence[str] = (BASE, "final"),
    device: str | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> list[Evaluation]:
    """Score each of the weights on a task of the harness, by the task's first metric.

    `include` is a folder of task files of one's own, in place of the harness's; paths in them are
    of that folder. Those after the first are compared with the first. Raises UsageError without the
    extra or such a task, DataError for a task whose data cannot be had or that scores no single
    question.
    """
    run = open_run(book, name)
    tasks = _load_tasks(task, include)
    trained = open_run_to_ask(run, weights, device=device, say=say)
    settings = {
        "task": task,
        "metric": tasks.metric,
        "harness": _harness().__version__,
        "configs": _hash({name: one.dump_config() for name, one in tasks.by_name.items()}),
        "examples": hash_keys(key[:2] for key in tasks.keys.values()),
    }

    def ask(speaker: Speaker, log: EvaluationLog, lacking: list[Key]) -> None:
        say(f"{speaker.subject.label}: {len(lacking)} questions of {task}")
        lines = _ask(speaker, tasks)
        log.add([line for line in lines if not log.has(line["item_id"], line["item_hash"])])

    kind = f"harness:{task}"
    logs = ask_each(trained, kind, settings, list(tasks.keys.values()), ask)
    evaluations: list[Evaluation] = []
    scored = {s.name: scores_of(logs[s.name].rows, s.label) for s in trained.subjects}
    first, *others = scored
    compared = compare_many(scored, [(x, first) for x in others], margin=DEFAULT_MARGIN / 100)
    for subject in trained.subjects:
        found = _estimate(scored[subject.name])
        done = Evaluation(
            kind=kind,
            subject=subject.name,
            unit=tasks.metric,
            score=found.score,
            interval=found.interval,
            n=found.n,
            missing=found.missing,
            examples_hash=found.examples_hash,
            settings={"weights": subject.weights, **settings},
            details={"lower_is_better": tasks.lower_is_better, "tasks": list(tasks.by_name)},
            against=None if subject.name == first else first,
            comparison=compared.get((subject.name, first)),
        )
        evaluations.append(write_result(run, logs[subject.name].path, done))
    build_notebook(book, say)
    return evaluations


def _harness() -> Any:
    try:
        import lm_eval
    except ImportError:
        raise UsageError(
            "--harness needs lm-eval-harness: pip install 'tunebook[harness]'"
        ) from None
    return lm_eval


@contextmanager
def _working_in(folder: Path | None) -> Iterator[None]:
    """Work in a folder, by default an empty one, and not where the command is called.

    In a stranger's book a folder `rouge` would stand for the metric of that name, whose Python is
    run, and one `Rowan/hellaswag` for those data. And the harness asks git, which does what a
    `.git` says.
    """
    with (
        tempfile.TemporaryDirectory(prefix="tunebook-harness-") as empty,
        contextlib.chdir(folder or empty),
    ):
        yield


def _load_tasks(task: str, include: Path | None) -> _Tasks:
    _harness()
    from lm_eval.tasks import TaskManager

    if include is not None and not include.is_dir():
        raise UsageError(f"{include} is no folder of task files")
    try:
        include = include and include.resolve()
        with _working_in(include):
            manager = TaskManager(include_path=include, include_defaults=include is None)
            if task not in manager.all_tasks:
                there = ", ".join(manager.all_tasks[:8]) or "none"
                raise UsageError(f"the harness has no task {task}; there is {there}")
            by_name = dict(manager.load([task])["tasks"])
            docs = {
                (name, place): doc
                for name, one in by_name.items()
                for place, doc in enumerate(one.eval_docs)
            }
    except (OSError, ValueError, RuntimeError, ConnectionError) as error:
        raise DataError(f"task {task} cannot be loaded: {error}") from error
    one = next(iter(by_name.values()))
    metric = next(iter(one.aggregation()))
    keys = {
        (name, place): (f"{name}#{place}", _hash(doc), 0) for (name, place), doc in docs.items()
    }
    return _Tasks(by_name, keys, metric, not one.higher_is_better().get(metric, True))


def _ask(speaker: Speaker, tasks: _Tasks) -> list[dict[str, Any]]:
    """Let the harness ask all questions; gives a line for each."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    model = HFLM(
        pretrained=speaker.loaded.network,
        tokenizer=speaker.codec.tokenizer,
        max_length=speaker.loaded.context_length,
        batch_size=8,
        device=str(speaker.loaded.device),
    )
    with _working_in(None):
        found = simple_evaluate(
            model,
            tasks=list(tasks.by_name.values()),
            bootstrap_iters=0,
            random_seed=_SEED,
            numpy_random_seed=_SEED,
            torch_random_seed=_SEED,
            fewshot_random_seed=_SEED,
        )
    lines = []
    for name, samples in (found or {}).get("samples", {}).items():
        # A task may read its answers in several ways; the first is what the harness shows first.
        own = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
        for sample in own:
            item_id, item_hash, repeat = tasks.keys[name, sample["doc_id"]]
            lines.append(
                {
                    "item_id": item_id,
                    "item_hash": item_hash,
                    "repeat": repeat,
                    "value": _score(name, tasks.metric, sample),
                    "tags": [name],
                    "target": str(sample["target"]),
                    "said": json.loads(json.dumps(sample["filtered_resps"], default=str)),
                }
            )
    return lines


def _score(task: str, metric: str, sample: Mapping[str, Any]) -> float:
    value = sample.get(metric)
    if not isinstance(value, (int, float)):
        raise DataError(
            f"task {task} gives no {metric} of a single question, so it cannot be compared item by "
            "item; choose a task that scores questions"
        )
    return float(value)


def _estimate(rows: Sequence[ItemScore]) -> Estimate:
    if all(row.value in (0, 1, None) for row in rows):
        return proportion_estimate(rows)
    return mean_estimate(rows, "bca")


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
