"""The nouns of tunebook: small frozen records that the layers hand to each other.

No torch, no I/O. Unknown is `None`, never 0. Lengths are in tokens, times in seconds, sizes in
bytes, losses in nats per target token, unless the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["new", "running", "paused", "stopped", "failed", "finished", "unknown"]
"""`paused` is any interruption that can be resumed; `stopped` was ended by a verdict; `unknown` is
that of a run whose log cannot be read, and no log says it."""

Role = Literal["system", "user", "input", "knowledge", "assistant", "text"]
"""`input` is the material an instruction is about, `knowledge` a fact put before an answer; `text`
is raw text without roles."""


# --- data ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of an example; an answer that is not `trained` is context only."""

    role: Role
    content: str
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Example:
    """One row as read, before it is rendered to tokens.

    `id` is `<source name>#<row>`, rows counted from 1 as an editor shows them, and
    `<source name>#<row>.<n>` for the n-th example of a row that has several. `document` is what the
    train/validation split and duplicates count by: rows of one document stay together. Of a row
    that is too long, `messages[window_from:-1]` may be left out, the oldest first.
    """

    id: str
    document: str
    messages: tuple[Message, ...]
    window_from: int | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """One example as the model sees it: token ids and which of them carry loss.

    `target[i]` says that token i is predicted and scored (token 0 never is). `cut_tokens` counts
    what `overlong: cut` removed. `scored_bytes` is the UTF-8 length of the text of the target
    tokens, special tokens counting neither way.
    """

    id: str
    document: str
    ids: tuple[int, ...]
    target: tuple[bool, ...]
    cut_tokens: int = 0
    scored_bytes: int = 0


# --- training -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExampleLoss:
    """What one example contributed to a step: its summed loss in nats over its target tokens."""

    id: str
    loss_sum: float
    target_tokens: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer step. `loss` is the sum over all its target tokens divided by their number.

    `applied` is False when the loss or a gradient was not finite and the update was left out.
    `padding_tokens` only fill rows up; `padding_target_tokens` of them carry loss, and none should.
    `update_ratio` is |change of the weights| / |weights| and `changed_fraction` the share of
    weights whose stored value changed, both measured on a fixed sample of the trained weights;
    the ratio is NaN when any trained weight is no number.
    `grad_norm` is taken before clipping. `canary_loss` is measured after the update. Of `seconds`,
    `data_seconds` went by until the rows were there, `pass_seconds` in forward and backward passes
    and `canary_seconds` in the canary; the rest clips, updates, checks and writes this down. What
    is None is so in imported curves only, which lack it, or in logs of old.
    """

    step: int
    epoch: float | None
    loss: float
    loss_sum: float | None
    target_tokens: int | None
    tokens: int | None
    padding_tokens: int | None
    learning_rate: float | None
    grad_norm: float | None
    clipped: bool | None
    applied: bool | None
    update_ratio: float | None
    changed_fraction: float | None
    examples: tuple[ExampleLoss, ...]
    lengths: tuple[int, ...]
    sources: Mapping[str, int]
    canary_loss: float | None
    seconds: float | None
    memory_bytes: int | None
    padding_target_tokens: int | None = 0
    data_seconds: float | None = None
    pass_seconds: float | None = None
    canary_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ValidationRecord:
    """The held-out loss at a step: token-weighted, with the hash of the examples it was taken on.

    `interval` is the 95 % confidence interval of `loss`, clustered by document; None when there
    are fewer than two documents. `per_source` has the loss of each source, token-weighted too; with
    `per_source_target_tokens` (empty in events of old) they add up to `loss_sum`. `per_document`
    has the sums of each document, of a fixed choice of at most `DOCUMENTS_KEPT` of them.
    """

    step: int
    loss: float
    loss_sum: float | None
    target_tokens: int | None
    examples: int | None
    documents: int | None
    scored_bytes: int | None
    examples_hash: str | None
    interval: tuple[float, float] | None
    per_source: Mapping[str, float]
    seconds: float | None
    per_source_target_tokens: Mapping[str, int] = field(default_factory=dict)
    per_document: tuple[ExampleLoss, ...] = ()


DOCUMENTS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model wrote for a prompt at a step (0: the untouched base)."""

    step: int
    prompt: str
    text: str
    reference: str | None
    settings: str


Confidence = Literal["certain", "likely", "undecided", "amber"]
"""A fact or arithmetic; statistics at a stated rate of false alarms; an incident whose cause the
log cannot decide; found while training and not yet confirmed by the steps after it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding about a run, with its evidence; `kind` is one of `kinds.KINDS`.

    `step` to `last_step` is when it happened, None where it is of the whole run. `next_action` is
    a sentence; `changes` are the same as settings, `key=value`, that a next run would be made with.
    """

    kind: str
    step: int | None
    last_step: int | None
    cause: str
    confidence: Confidence
    evidence: Mapping[str, object]
    next_action: str
    changes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The kind, and those of its effects, which are told with it and not beside it."""
        effects = self.evidence.get("followed_by")
        return (self.kind, *(effects if isinstance(effects, (list, tuple)) else ()))

    def meets(self, other: Verdict) -> bool:
        """Tell whether another verdict is about the same: of this kind, and of steps near these."""
        if self.kind != other.kind or self.step is None or other.step is None:
            return self.kind == other.kind
        ends = self.last_step or self.step, other.last_step or other.step
        return self.step <= ends[1] + _NEAR_STEPS and other.step <= ends[0] + _NEAR_STEPS


_NEAR_STEPS = 8


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What all detectors say of a run after `step`; `final` when it was made of the whole log.

    Before that a verdict may be amber. `looked_for` are the kinds that it was looked for, and
    `not_looked_for` says of others why nothing can be told of them.
    """

    step: int | None
    verdicts: tuple[Verdict, ...]
    looked_for: tuple[str, ...]
    not_looked_for: Mapping[str, str]
    final: bool


# --- scores -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ItemScore:
    """What one item (question, document, game) scored once; every statistic is made of these.

    `value` is a sum over `n_units` (target tokens, bytes, or 1), None where it is missing.
    `item_hash` says what exactly was asked; two runs are compared only on equal hashes. `cluster`
    names what varies as one, such as a game; empty, the item stands alone. `repeat` counts
    judgements of one item from 0.
    """

    item_id: str
    item_hash: str
    run: str
    value: float | None
    n_units: float = 1
    cluster: str = ""
    repeat: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score with its standard error and its 95 % confidence interval, made by `method`.

    `n` counts the items with a score, `missing` the rows without one, `clusters` what varies
    independently. `interval` and `error` are None with fewer than two clusters. `bounds` are the
    score if all that is missing were the worst and the best possible; None when nothing is missing.
    """

    score: float | None
    interval: tuple[float, float] | None
    n: int
    missing: int
    clusters: int
    examples_hash: str
    method: Literal["t", "bca", "wilson"]
    error: float | None = None
    bounds: tuple[float, float] | None = None


ComparisonVerdict = Literal["different", "equivalent", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs on the same items: the first minus the second, and what can be said of it.

    `p` is of the sign-flip permutation test, `p_adjusted` the same after Holm's correction where
    several pairs are shown (it decides), `p_equivalent` of the two one-sided tests against
    `margin`. `sd` is of the paired differences per item, clusters taken into account;
    `detectable` is the difference that `n` items show with 80 % power. `n_needed` accompanies
    "cannot tell": so many items would decide if the difference stays as it is (None: no number
    would). `bounds` replace the verdict where too much is missing; `reason` says why. They put
    what is missing anywhere on `scale`, (lowest, highest); None: nowhere beyond what was seen.
    """

    verdict: ComparisonVerdict
    difference: float
    interval: tuple[float, float] | None
    p: float | None
    n: int
    n_needed: int | None
    detectable: float | None
    margin: float
    missing_a: int
    missing_b: int
    sd: float | None
    p_equivalent: float | None
    clusters: int
    examples_hash: str
    p_adjusted: float | None = None
    bounds: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation of one set of weights of a run came to.

    `subject` is base (what the run started from), final, best or step-N; `interval` is the 95 %
    confidence interval of `score`, None where there is nothing to estimate it from; `comparison`
    is with the weights `against`, on the same items. `log` names the file with a line per item
    asked; `finished` is a time in UTC.
    """

    kind: str
    subject: str
    unit: str
    score: float | None
    interval: tuple[float, float] | None
    n: int
    missing: int
    examples_hash: str
    settings: Mapping[str, object]
    details: Mapping[str, object]
    against: str | None = None
    comparison: Comparison | None = None
    log: str = ""
    finished: str = ""


# --- the plan ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `name` is the check's, in kebab-case, as `--accept` takes it.

    `message` is one sentence, `evidence` the numbers behind it, `way_out` what to do about it.
    """

    name: str
    level: Literal["refuse", "warn"]
    message: str
    evidence: Mapping[str, object]
    way_out: str


# --- the notebook -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction after the run. `held` is None when it cannot be scored; `reason` says why."""

    text: str
    held: bool | None
    measured: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of the run table; every consumer (terminal, page, JSON) reads this record.

    `verdicts` are kinds, those of `amber` not confirmed yet, `effects` what followed from them;
    `looked_for` are the kinds that were looked for, `not_looked_for` says of others why not; `note`
    is the newest note of its author.
    """

    name: str
    state: State
    model: str | None
    stage: str | None
    method: str | None
    parents: tuple[str, ...] = ()
    train_loss: float | None = None
    val_loss: float | None = None
    perplexity: float | None = None
    bits_per_byte: float | None = None
    base_val_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    examples_hash: str | None = None
    judge: float | None = None
    judge_settings: str | None = None  # scores of others do not compare
    device: str | None = None
    peak_memory_bytes: int | None = None
    verdicts: tuple[str, ...] = ()
    amber: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    looked_for: tuple[str, ...] = ()
    not_looked_for: Mapping[str, str] = field(default_factory=dict)
    outcome: str | None = None
    started: str | None = None
    seconds: float | None = None
    step: int | None = None
    steps: int | None = None
    hypothesis: str | None = None
    tags: tuple[str, ...] = ()
    note: str | None = None
    config: Mapping[str, object] = field(default_factory=dict)
