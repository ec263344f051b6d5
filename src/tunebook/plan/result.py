"""The plan of a run, as it is shown, stored in `plan.json` and printed by `--json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tunebook.errors import DefectError
from tunebook.records import Finding


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of parameters. `total` has a tied head once, `total_untied` counts it apart.

    Both are the base's; `adapter` parameters stand apart. `groups` adds up to `total`:
    embeddings, attention, mlp, norms, head, other. `packed` is what a count over packed 4-bit
    tensors would say, None without quantization. `adapted` are those of the base's weights that an
    adapter stands beside, and no update of them has a larger rank than `adapted_width`: of the
    largest of them the smaller side. `through` is the share of layers from the lowest one that
    learns, or that stands on embeddings that do.
    """

    total: int
    total_untied: int
    trainable: int
    adapter: int
    groups: Mapping[str, int]
    packed: int | None = None
    adapted: int = 0
    adapted_width: int = 0
    through: float = 1.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Peaks in bytes on one device. None is not known.

    `train_peak_bytes` is for a batch as it is on average, `longest_batch_bytes` for the largest of
    this data, `evaluation_peak_bytes` and `generation_peak_bytes` for what happens between steps.
    These are what the device's allocator holds; `resident_bytes` is the largest of them with what
    tensors do not show: the process itself on a CPU, context and workspace on CUDA. `parts` says
    what the longest batch's peak is made of and adds up to it. `stated` are the formulas and
    assumptions that no dry run covers, one sentence each.
    """

    train_peak_bytes: int
    longest_batch_bytes: int
    evaluation_peak_bytes: int | None
    generation_peak_bytes: int | None
    resident_bytes: int
    device_bytes: int | None
    parts: Mapping[str, int]
    longest_batch: Mapping[str, int]
    stated: tuple[str, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """The largest peak of training, evaluation and generation."""
        known = (self.evaluation_peak_bytes, self.generation_peak_bytes)
        return max(self.longest_batch_bytes, self.train_peak_bytes, *(b or 0 for b in known))


@dataclass(frozen=True, slots=True)
class Disk:
    """What the run will write to the volume of its folder, in bytes.

    `checkpoint_bytes` is one of them, `kept` how many there are at most at one time (best, newest
    and the one being written). `activation_cache_bytes` are there while it trains.
    """

    needed_bytes: int
    free_bytes: int
    checkpoint_bytes: int
    kept: int
    final_bytes: int
    activation_cache_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Time:
    """How long the run will take in seconds, and on what ground that is said.

    `canary_seconds` are among those of evaluation.
    """

    seconds: float | None
    evaluation_seconds: float | None
    basis: str
    canary_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """What the tokenizer makes of the run's rows; None is not measured."""

    name: str
    vocabulary: int
    end_token: str | None
    end_trained: float | None
    template: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is known of a run before its first step.

    `faults` are those findings that kept the data from being made: nobody can accept them, for
    there is nothing to train on. `operations` are those that a token and that a target token adds
    to training, by the convention of `plan.clock.Cost`.
    """

    model: str
    method: str
    device: str
    precision: str
    parameters: Parameters
    memory: Memory
    micro_batch_size: int
    gradient_accumulation_steps: int
    effective_batch_size: int
    gradient_checkpointing: bool | int
    epochs: float | None
    steps: int | None
    tokens: int | None
    target_tokens: int | None
    time: Time
    disk: Disk | None
    rows: Mapping[str, int] | None
    dropped: Mapping[str, int]
    lengths: Mapping[str, float] | None
    tokenizer: Tokenizer | None
    findings: tuple[Finding, ...]
    accepted: tuple[str, ...]
    n_passed: int
    words: tuple[str, ...] = ()
    probe: Mapping[str, float] = field(default_factory=dict)
    faults: tuple[Finding, ...] = ()
    operations: Mapping[str, float] = field(default_factory=dict)

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The findings that the run is refused for."""
        return tuple(f for f in self.findings if f.level == "refuse" and not self.is_accepted(f))

    def is_accepted(self, finding: Finding) -> bool:
        """Tell whether the author took a finding on himself, and could."""
        return finding.name in self.accepted and finding not in self.faults


def plan_json(plan: Plan) -> dict[str, Any]:
    """Give a plan under the names that scripts rely on."""
    disk = plan.disk
    return {
        "model": plan.model,
        "method": plan.method,
        "device": plan.device,
        "precision": plan.precision,
        "parameters": asdict(plan.parameters),
        "memory": asdict(plan.memory),
        "micro_batch_size": plan.micro_batch_size,
        "gradient_accumulation_steps": plan.gradient_accumulation_steps,
        "effective_batch_size": plan.effective_batch_size,
        "gradient_checkpointing": plan.gradient_checkpointing,
        "epochs": plan.epochs,
        "steps": plan.steps,
        "tokens": plan.tokens,
        "target_tokens": plan.target_tokens,
        "seconds": plan.time.seconds,
        "time": asdict(plan.time),
        "disk": None if disk is None else asdict(disk),
        "rows": None if plan.rows is None else {**plan.rows, "dropped_by_reason": plan.dropped},
        "lengths": plan.lengths,
        "tokenizer": None if plan.tokenizer is None else asdict(plan.tokenizer),
        "checks": [asdict(finding) for finding in plan.findings],
        "checks_passed": plan.n_passed,
        "accepted": list(plan.accepted),
        "notes": list(plan.words),
        "probe": dict(plan.probe),
        "operations": dict(plan.operations),
    }


def fault_of(error: DefectError) -> Finding:
    """Give what kept the data from being made as a finding."""
    evidence = {"data": "could not be made"}
    return Finding(error.finding, "refuse", error.message, evidence, error.way_out)


def refusal_reason(run: str, refusals: Sequence[Finding], faults: Sequence[Finding] = ()) -> str:
    """Say what a run is refused for, the way out of the first, and how to accept what can be."""
    ordered = (*faults, *(f for f in refusals if f not in faults))
    first, names = ordered[0], list(dict.fromkeys(f.name for f in ordered))
    more = f" (and for {', '.join(names[1:])})" if names[1:] else ""
    accept = " ".join(f"--accept {name}" for name in names)
    last = f"or take {'them' if names[1:] else 'it'} on yourself with `{accept}`"
    if faults:
        last = "it cannot be accepted, for no tokens could be made"
    return (
        f"{run} is refused{more}: {first.name}: {first.message}; way out: {first.way_out}; {last}"
    )
