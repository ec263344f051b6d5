"""The weights of a run, loaded one after the other to be scored or to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from tunebook.book.content import verify_weights, weights_hash
from tunebook.book.evaluations import EvaluationLog, open_log
from tunebook.book.places import RunFolder
from tunebook.models.load import LoadedModel, choose_device, choose_precision
from tunebook.models.screen import ADAPTER_CONFIG
from tunebook.models.tokenizer import Codec, load_tokenizer
from tunebook.recipe.load import read_resolved
from tunebook.recipe.tree import Recipe
from tunebook.recipe.yaml_text import read_text
from tunebook.step.forward import Scorer
from tunebook.workflows.model import build_model
from tunebook.workflows.weights import BASE, base_hash, find_weights, refuse_missing

Key = tuple[str, str, int]
"""What a line of a log is known by: item id, item hash, repeat."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Weights of a run by name: base (what it started from), final, best or step-N.

    `weights` is their content hash; `folder` is None for the base.
    """

    run: RunFolder
    name: str
    weights: str
    folder: Path | None

    @property
    def label(self) -> str:
        """How scores of these weights are told from others': `run_4`, `run_4/base`."""
        return self.run.name if self.name == "final" else f"{self.run.name}/{self.name}"


@dataclass(frozen=True, slots=True)
class Trained:
    """A run that can be asked: its recipe, its tokenizer, and the weights that are meant."""

    run: RunFolder
    recipe: Recipe
    environment: Mapping[str, object]
    codec: Codec
    subjects: tuple[Subject, ...]


@dataclass(frozen=True, slots=True)
class Speaker:
    """Weights that are loaded and ready."""

    subject: Subject
    loaded: LoadedModel
    scorer: Scorer
    codec: Codec


def open_run_to_ask(
    run: RunFolder,
    names: Sequence[str],
    *,
    device: str | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Trained:
    """Find the weights that are meant, and refuse what is missing or damaged before any is loaded.

    `device` overrides that of the run. Raises BookError for weights that are not there,
    CheckpointError for damaged ones, ParentMismatch where the base is another.
    """
    refuse_missing(run.book, run.name, names)
    recipe, environment = read_resolved(read_text(run.resolved_yaml))
    device = choose_device(device or recipe.device)
    precision = choose_precision(recipe.precision, device)
    chosen = {"device": device, "devices": 1, "precision": precision}
    recipe = recipe.model_copy(update=chosen)
    base = base_hash(run, recipe, environment, say)
    subjects = []
    for name in dict.fromkeys(names):
        if name == BASE:
            adapter = environment.get("adapter")
            # What a child of an adapter starts from is the base with that adapter.
            own = weights_hash(Path(str(adapter)), run.book) if adapter else ""
            subjects.append(Subject(run, name, base + own, None))
            continue
        folder = find_weights(run, name)
        verify_weights(folder)
        under = base if (folder / ADAPTER_CONFIG).exists() else ""
        subjects.append(Subject(run, name, weights_hash(folder, run.book) + under, folder))
    codec = load_tokenizer(recipe.model, recipe.add_tokens, run.cache_dir)
    return Trained(run, recipe, environment, codec, tuple(subjects))


@dataclass(frozen=True, slots=True)
class Job:
    """Items to be asked under settings of their own, and what asks them and adds their lines.

    With `base_first` others are held against what the base says: it is asked before any that lacks
    something, be it for no item of its own.
    """

    kind: str
    settings: Mapping[str, object]
    wanted: Sequence[Key]
    ask: Callable[[Speaker, EvaluationLog, list[Key]], None]
    base_first: bool = False


def ask_each(
    trained: Trained,
    kind: str,
    settings: Mapping[str, object],
    wanted: Sequence[Key],
    ask: Callable[[Speaker, EvaluationLog, list[Key]], None],
) -> dict[str, EvaluationLog]:
    """Let each of the weights do what its log lacks; gives the logs by name of the weights.

    `ask` adds the lines of the items it is given to the log. Weights that lack nothing are not
    loaded.
    """
    return ask_all(trained, [Job(kind, settings, wanted, ask)])[0]


def ask_all(trained: Trained, jobs: Sequence[Job]) -> list[dict[str, EvaluationLog]]:
    """Let each of the weights do several jobs in one load, as `ask_each` does one."""
    with ExitStack() as stack:
        logs: list[dict[str, EvaluationLog]] = [{} for _ in jobs]
        lacking: dict[str, list[list[Key]]] = {}
        for subject in trained.subjects:
            own = {"weights": subject.weights, "precision": trained.recipe.precision}
            lacking[subject.name] = []
            for job, named in zip(jobs, logs, strict=True):
                settings = {**own, **job.settings}
                log = stack.enter_context(open_log(trained.run, job.kind, subject.name, settings))
                named[subject.name] = log
                lacking[subject.name].append([key for key in job.wanted if not log.has(*key)])
        always = [
            job.base_first and any(keys[number] for keys in lacking.values())
            for number, job in enumerate(jobs)
        ]
        wanting = [
            s for s in trained.subjects if any(lacking[s.name]) or (s.name == BASE and any(always))
        ]
        for speaker in speakers(trained, wanting):
            name = speaker.subject.name
            for job, named, keys, first in zip(jobs, logs, lacking[name], always, strict=True):
                if keys or (name == BASE and first):
                    job.ask(speaker, named[name], keys)
            del speaker  # or its weights stay while the next are loaded
    return logs


def speakers(trained: Trained, subjects: Sequence[Subject]) -> Iterator[Speaker]:
    """Load each of the weights in turn; base and adapter share one load, the adapter switched off.

    What was yielded before is not to be used once the next one is asked for.
    """
    waiting = list(subjects)
    if (pair := _sharing(trained, waiting)) is not None:
        base, tuned = pair
        waiting = [one for one in waiting if one not in pair]
        speaker = _load(trained, tuned)
        with speaker.loaded.network.disable_adapter():
            yield replace(speaker, subject=base)
        yield speaker
        del speaker
    for subject in waiting:
        yield _load(trained, subject)


@dataclass(frozen=True, slots=True)
class Voice:
    """Weights that stay loaded beside others; `bare`: the base of an adapter that is loaded too."""

    speaker: Speaker
    bare: bool = False

    def speaking(self) -> AbstractContextManager[object]:
        """Give the context in which the speaker is who it is said to be."""
        network = self.speaker.loaded.network
        return network.disable_adapter() if self.bare else nullcontext()


def voices(trained: Trained, subjects: Sequence[Subject]) -> list[Voice]:
    """Load weights to be asked in turns, in their order; base and adapter share one load."""
    pair = _sharing(trained, subjects)
    shared = None if pair is None else _load(trained, pair[1])
    found = []
    for subject in subjects:
        if pair is None or shared is None or subject not in pair:
            found.append(Voice(_load(trained, subject)))
        else:
            found.append(Voice(replace(shared, subject=subject), bare=subject is pair[0]))
    return found


def _sharing(trained: Trained, subjects: Sequence[Subject]) -> tuple[Subject, Subject] | None:
    """Name the base and the adapter on it where one load has both; None where none does."""
    tuned = next((one for one in subjects if _is_adapter(one)), None)
    base = next((one for one in subjects if one.folder is None), None)
    # What a child of an adapter starts from is no bare base.
    if tuned is None or base is None or trained.environment.get("adapter"):
        return None
    return base, tuned


def _is_adapter(subject: Subject) -> bool:
    return subject.folder is not None and (subject.folder / ADAPTER_CONFIG).exists()


def _load(trained: Trained, subject: Subject) -> Speaker:
    recipe = trained.recipe
    if recipe.method == "relora":  # its checkpoints hold whole weights with the adapter in them
        recipe = recipe.model_copy(update={"method": "full"})
    # The base of an adapter gets a fresh one, which changes nothing.
    loaded, scorer = build_model(
        recipe, trained.environment, trained.codec, subject.folder, checkpointing=False
    )
    loaded.network.eval()
    return Speaker(subject, loaded, scorer, trained.codec)
