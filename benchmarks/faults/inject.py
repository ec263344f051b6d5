"""The faults: how each is put into a run, at three strengths, and the verdict that is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from reading import PAD
from runs import Examples, Order, Setup, fresh_network, source_of

from tunebook.data.order import SourcedExample
from tunebook.records import Tokens
from tunebook.step.optimization import Optimization
from tunebook.train.loop import Training
from tunebook.watch.run_log import RunLog

STRENGTHS = ("just_visible", "clear", "gross")


@dataclass(frozen=True)
class Window:
    """From which step to which the fault is in the run; `slots` are its rows of the first step.

    Step 0 is before the first one: what is wrong with a run from its start begins there.
    `found` gives the first step where only the finished run can tell.
    """

    first: int
    last: int
    slots: tuple[int, ...] = ()
    found: Callable[[RunLog], int] | None = None


@dataclass(frozen=True)
class Fault:
    """`inject(setup, strength, k)` changes a set-up; strength is 0, 1 or 2, k a random step.

    `makes_sense` says on which runs it can be. A run whose log does not have what `shows` asks for
    is made again with a higher learning rate: a label must be of something that happened.
    """

    kind: str
    inject: Callable[[Setup, int, int], Window]
    makes_sense: Callable[[Setup], bool] = lambda setup: True
    shows: Callable[[RunLog], bool] = lambda log: True


def _generator(setup: Setup, index: int) -> np.random.Generator:
    return np.random.default_rng([setup.seed, 23, index])


def _changed(example: SourcedExample, change: Callable[[Tokens], Tokens]) -> SourcedExample:
    return replace(example, tokens=change(example.tokens))


# --- of the data ---------------------------------------------------------------------------------


def shuffled(row: Tokens, generator: np.random.Generator) -> Tokens:
    """Put the target tokens of a row into another order."""
    ids, places = np.array(row.ids), np.flatnonzero(row.target)
    ids[places] = generator.permutation(ids[places])
    return replace(row, ids=tuple(ids.tolist()))


def _garbage(row: Tokens, share: float, vocabulary: int, generator: np.random.Generator) -> Tokens:
    ids = np.array(row.ids)
    chosen = generator.random(len(ids)) < share
    chosen[0] = False
    ids[chosen] = generator.integers(3, vocabulary, int(chosen.sum()))
    return replace(row, ids=tuple(ids.tolist()))


def _shuffled_labels(setup: Setup, strength: int, k: int) -> Window:
    share = (0.25, 0.6, 1.0)[strength]

    def alter(_: Order, index: int, found: Examples) -> Examples:
        generator = _generator(setup, index)
        if index // setup.batch + 1 < k or generator.random() >= share:
            return found
        return tuple(_changed(e, lambda row: shuffled(row, generator)) for e in found)

    setup.alter = alter
    return Window(k, setup.steps)


def _garbage_rows(setup: Setup, k: int, slots: tuple[int, ...], share: float) -> Window:
    vocabulary = setup.material.substrate.vocabulary_size

    def alter(_: Order, index: int, found: Examples) -> Examples:
        step, slot = index // setup.batch + 1, index % setup.batch
        if step != k or slot not in slots:
            return found
        generator = _generator(setup, index)
        return tuple(
            _changed(e, lambda row: _garbage(row, share, vocabulary, generator)) for e in found
        )

    setup.alter = alter
    return Window(k, k, slots)


def _garbage_batch(setup: Setup, strength: int, k: int) -> Window:
    return _garbage_rows(setup, k, tuple(range(setup.batch)), (0.12, 0.45, 1.0)[strength])


def _garbage_example(setup: Setup, strength: int, k: int) -> Window:
    slot = int(setup.random.integers(setup.batch))
    return _garbage_rows(setup, k, (slot,), (0.4, 0.7, 1.0)[strength])


def _padding_targets(setup: Setup, strength: int, k: int) -> Window:
    length = (0, 0, 40)[strength]
    more = (3, 10, 0)[strength]

    def pad(row: Tokens) -> Tokens:
        n = more or max(length - len(row.ids), 0)
        return replace(row, ids=row.ids + (PAD,) * n, target=row.target + (True,) * n)

    def alter(_: Order, index: int, found: Examples) -> Examples:
        late = index // setup.batch + 1 >= k
        return tuple(_changed(e, pad) for e in found) if late else found

    length = 24 + max(len(row.ids) for row in setup.material.train) if length else 0
    setup.alter = alter
    return Window(k, setup.steps)


def _truncated_answers(setup: Setup, strength: int, k: int) -> Window:
    kept = (0.6, 0.35, 0.12)[strength]

    def cut(row: Tokens) -> Tokens:
        first = row.target.index(True)
        n = first + max(2, round(kept * (len(row.ids) - first)))
        return replace(row, ids=row.ids[:n], target=row.target[:n])

    def alter(_: Order, index: int, found: Examples) -> Examples:
        inside = k <= index // setup.batch + 1 < k + 20
        return tuple(_changed(e, cut) for e in found) if inside else found

    setup.alter = alter
    return Window(k, min(k + 19, setup.steps))


def _repeated_shard(setup: Setup, strength: int, k: int) -> Window:
    stretch = (1, 4, 10)[strength]

    def alter(order: Order, index: int, found: Examples) -> Examples:
        if not k <= index // setup.batch + 1 < k + stretch:
            return found
        return order.plain_row(index - stretch * setup.batch)

    setup.alter = alter
    return Window(k, k + stretch - 1)


def _tiny_set(setup: Setup, strength: int, k: int) -> Window:
    setup.rows = setup.material.train[: setup.material.substrate.tiny[strength]]
    setup.schedule = "constant"
    setup.learning_rate *= setup.material.substrate.overfit

    def best(log: RunLog) -> int:
        return min(log.validations, key=lambda v: v.loss).step

    return Window(0, setup.steps, found=best)


def _domain_switch(setup: Setup, strength: int, k: int) -> Window:
    share = (0.35, 0.6, 1.0)[strength]
    other = [SourcedExample(row, source_of(row)) for row in setup.material.other]

    def alter(_: Order, index: int, found: Examples) -> Examples:
        late = index // setup.batch + 1 >= k
        if not late or _generator(setup, index).random() >= share:
            return found
        return (other[index % len(other)],)

    setup.alter = alter
    return Window(k, setup.steps)


# --- of the learning rate and of clipping --------------------------------------------------------

_JUMPS = (3.0, 10.0, 100.0)


def _lr_step(setup: Setup, strength: int, k: int) -> Window:
    setup.rate = lambda step: _JUMPS[strength] if step >= k else 1.0
    return Window(k, setup.steps)


def _lr_ramp(setup: Setup, strength: int, k: int) -> Window:
    setup.rate = lambda step: _JUMPS[strength] ** (min(max(step - k + 1, 0), 5) / 5)
    return Window(k, setup.steps)


def _lr_after_resume(setup: Setup, strength: int, k: int) -> Window:
    setup.resumed_after = (k - 1,)
    return _lr_step(setup, strength, k)


def _peak_too_high(setup: Setup, strength: int, k: int) -> Window:
    setup.learning_rate *= setup.material.substrate.hurt[strength]
    setup.warmup_steps = setup.steps * (30 + k % 20) // 100
    setup.schedule = "cosine"
    return Window(0, setup.steps)


def _lr_too_high(setup: Setup, strength: int, k: int) -> Window:
    setup.learning_rate *= setup.material.substrate.hurt[strength]
    setup.warmup_steps = 0
    setup.schedule = "constant"
    return Window(0, setup.steps)


def _clip_on_late(setup: Setup, strength: int, k: int) -> Window:
    share = (0.8, 0.5, 0.1)[strength]
    seen: list[float] = []

    def look(step: int, optimization: Optimization) -> None:
        seen.append(float(optimization.grad_norm()))
        if step == k:
            setup.max_grad_norm = share * median(seen[-25:])

    setup.gradients = look
    setup.clip = lambda step: setup.max_grad_norm if step >= k else 0.0
    # `clip` is asked before the gradients of a step are there: so one step earlier.
    setup.max_grad_norm = 0.0
    return Window(k + 1, setup.steps)


def _lr_too_low(setup: Setup, strength: int, k: int) -> Window:
    setup.learning_rate *= (0.03, 0.01, 0.001)[strength]
    return Window(0, setup.steps)


# --- of the weights, the gradients and the optimizer ---------------------------------------------


def _frozen(setup: Setup, strength: int, k: int) -> Window:
    share = (0.5, 0.8, 1.0)[strength]
    chosen: set[str] = set()

    def forget(_: int, optimization: Optimization) -> None:
        if not chosen:
            names = [n for n, p in optimization.masters.items() if p.ndim >= 2]
            n_frozen = round(share * len(names))
            chosen.update(setup.random.permutation(names)[:n_frozen].tolist())
        for name in chosen:
            optimization.masters[name].grad = None

    setup.gradients = forget
    return Window(0, setup.steps)


def _bf16_sgd(setup: Setup, strength: int, k: int) -> Window:
    setup.stored = lambda weight: weight.bfloat16().float()
    setup.optimizer = "sgd"
    setup.learning_rate *= (1.0, 0.2, 0.01)[strength]
    return Window(0, setup.steps)


def _overflow(setup: Setup, strength: int, k: int) -> Window:
    n = (1, 3, 8)[strength]
    later = setup.random.permutation(range(k + 1, k + 16))[: n - 1].tolist()
    steps = frozenset([k, *later])
    if setup.seed % 2:
        setup.bad_loss = steps
        return Window(k, max(steps))

    def overflow(step: int, optimization: Optimization) -> None:
        for master in optimization.masters.values():
            if step in steps and master.grad is not None:
                # What is left of gradients in half precision that were scaled up too far.
                master.grad = (master.grad * 2.0**24).half().float() / 2.0**24

    setup.gradients = overflow
    return Window(k, max(steps))


def _accumulation_scale(setup: Setup, strength: int, k: int) -> Window:
    factor = (2.0, 4.0, 16.0)[strength]

    def scale(step: int, optimization: Optimization) -> None:
        for master in optimization.masters.values():
            if step >= k and master.grad is not None:
                master.grad.mul_(factor)

    setup.gradients = scale
    return Window(k, setup.steps)


def _resumed_without_optimizer(setup: Setup, strength: int, k: int) -> Window:
    def resume(training: Training) -> None:
        optimization = training.optimization
        for number, master in enumerate(optimization.masters.values()):
            state = optimization.optimizer.state[master]
            if strength == 2:
                state["exp_avg_sq"].zero_()
            elif strength == 1 or number % 2:
                state.clear()

    setup.before[k] = resume
    setup.resumed_after = (k - 1,)
    return Window(k, min(k + 10, setup.steps))


def _random_base(setup: Setup, strength: int, k: int) -> Window:
    kept = (("embed_tokens", "wte", "wpe", "lm_head", "norm", "ln_"), ("wpe", "norm"), ())[strength]

    @torch.no_grad()
    def forget(network: torch.nn.Module) -> None:
        fresh = dict(fresh_network(setup.material.substrate, setup.seed + 1).named_parameters())
        for name, parameter in network.named_parameters():
            if not any(part in name for part in kept):
                parameter.copy_(fresh[name])

    setup.prepare = forget
    return Window(0, setup.steps)


# --- of the validation ---------------------------------------------------------------------------


def _wrong_validation_template(setup: Setup, strength: int, k: int) -> Window:
    vocabulary = setup.material.substrate.vocabulary_size

    def other_form(number: int, row: Tokens) -> Tokens:
        ids = np.array(row.ids)
        places = np.flatnonzero(row.target)
        if strength == 2:
            ids[places] = (ids[places] + 1) % vocabulary
        elif strength == 1 or number % 5 < 2:
            ids[places[:-1]] = ids[places[:-1]][::-1]
        return replace(row, ids=tuple(ids.tolist()))

    setup.held_out = [other_form(number, row) for number, row in enumerate(setup.material.held_out)]
    return Window(0, setup.steps)


def _validation_overlap(setup: Setup, strength: int, k: int) -> Window:
    held_out, train = setup.material.held_out, setup.material.train[: setup.steps * setup.batch]
    n = round((0.05, 0.2, 1.0)[strength] * len(held_out))
    places = setup.random.permutation(len(train))[:n].tolist()
    setup.rows = list(train)
    for place, row in zip(places, held_out, strict=False):
        setup.rows[place] = replace(row, id=train[place].id, document=train[place].document)
    return Window(0, setup.steps)


def _full(setup: Setup) -> bool:
    return setup.material.substrate.rank is None


def _rises(log: RunLog) -> bool:
    """Tell whether the held-out loss ends 2 % above its lowest: what a tiny set is to show."""
    losses = [v.loss for v in log.validations]
    return losses[-1] > 1.02 * min(losses)


def _hurts(log: RunLog) -> bool:
    """Tell whether canary or held-out loss went 4 % above what it had been, the base included."""
    losses = np.array([v.loss for v in log.validations])
    return any(
        bool((known > 1.04 * np.minimum.accumulate(known)).any())
        for known in (np.where(np.isfinite(x), x, np.inf) for x in (log.canary, losses))
    )


FAULTS: dict[str, Fault] = {
    "shuffled_labels": Fault("corrupted_targets", _shuffled_labels),
    "garbage_batch": Fault("bad_batch", _garbage_batch),
    "garbage_example": Fault("bad_example", _garbage_example),
    "padding_targets": Fault("padding_or_length", _padding_targets),
    "truncated_answers": Fault("padding_or_length", _truncated_answers),
    "repeated_shard": Fault("repeated_rows", _repeated_shard),
    "tiny_set": Fault("overfitting", _tiny_set, shows=_rises),
    "domain_switch": Fault("data_boundary", _domain_switch),
    "lr_step": Fault("lr_jump", _lr_step),
    "lr_ramp": Fault("lr_jump", _lr_ramp),
    "lr_after_resume": Fault("lr_jump", _lr_after_resume),
    "peak_too_high": Fault("peak_lr", _peak_too_high, shows=_hurts),
    "lr_too_high": Fault("lr_too_high", _lr_too_high, shows=_hurts),
    "clip_on_late": Fault("clip_switch", _clip_on_late),
    "lr_too_low": Fault("lr_too_low", _lr_too_low),
    "frozen": Fault("no_learning", _frozen),
    # An adapter's B is 0 at first, and next to 0 bf16 is fine enough for any update.
    "bf16_sgd": Fault("weights_frozen_by_precision", _bf16_sgd, _full),
    "overflow": Fault("non_finite", _overflow),
    "accumulation_scale": Fault("gradient_scale", _accumulation_scale),
    "resumed_without_optimizer": Fault("resumed_state", _resumed_without_optimizer),
    "random_base": Fault("random_base", _random_base),
    "wrong_validation_template": Fault("loss_scale_mismatch", _wrong_validation_template),
    "validation_overlap": Fault("validation_overlap", _validation_overlap),
}
