"""Score the rules of other tools on the fault benchmark's logs.

    pip install pytorch-lightning soup-cli zclip      # in an environment of its own
    python benchmarks/faults/rivals.py --split tuning
    python benchmarks/faults/rivals.py --split scoring

The numbers are kept in rivals.json, from which tools/make_docs.py writes docs/verdicts.md.

Hugging Face's EarlyStoppingCallback, Lightning's SpikeDetection, ZClip and the rules of `soup why`
run by their real code, driven with the logged numbers; the others are written down from the
source named beside them. In favour of every rule: nothing stops at an alarm, an alarm anywhere in
the window counts, further ones cost nothing, and a finding about the whole run lies in every
window. Each rule runs at its defaults and at the setting that is best on the tuning logs: the most
faults detected with alarms in at most 2 % of healthy runs, else the fewest such alarms.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np
from logs import read_split
from numpy.lib.stride_tricks import sliding_window_view
from score import STRONG, label_of, rounded
from scoring import Alarm, Outcome, clopper_pearson, false_alarms, score

from tunebook.watch.run_log import RunLog

RIVALS_FILE = Path(__file__).with_name("rivals.json")
Rule = Callable[..., list[Alarm]]  # of a log and the values of its settings
Values = tuple[float, ...]
_HEALTHY_ALARMS = 0.02


def _at(log: RunLog, places: Iterable[int], kind: str | None = None) -> list[Alarm]:
    return [Alarm(int(log.step[i]), kind) for i in places]


def early_stopping(log: RunLog, patience: int) -> list[Alarm]:
    """Drive Hugging Face's callback as its Trainer does; what it stands for is overfitting."""
    from transformers import EarlyStoppingCallback, TrainerControl, TrainerState

    callback = EarlyStoppingCallback(early_stopping_patience=patience)
    settings = SimpleNamespace(metric_for_best_model="eval_loss", greater_is_better=False)
    state, alarms = TrainerState(), []
    for validation in log.validations:
        if validation.step == 0:
            continue  # the Trainer does not evaluate before it trains
        control = TrainerControl()
        callback.on_evaluate(settings, state, control, {"eval_loss": validation.loss})
        if control.should_training_stop:
            alarms.append(Alarm(validation.step, "overfitting"))
        # The Trainer keeps the best metric after its callbacks had a look.
        if state.best_metric is None or validation.loss < state.best_metric:
            state.best_metric = validation.loss
    return alarms


def spike_detection(log: RunLog, rtol: float, window: int = 10) -> list[Alarm]:
    """Drive Lightning's callback; it blames the batch, or a loss that is no number."""
    import torch
    from lightning_fabric.utilities.spike import TrainingSpikeException
    from pytorch_lightning.callbacks import SpikeDetection

    callback = SpikeDetection(rtol=rtol, window=window, exclude_batches_path="skip_batches.json")
    strategy = SimpleNamespace(
        root_device=torch.device("cpu"),
        barrier=lambda: None,
        reduce_boolean_decision=lambda decision, all: decision,
    )
    # Rank 0 would write the file of batches to skip.
    trainer = SimpleNamespace(strategy=strategy, global_rank=1, default_root_dir=".")
    alarms = []
    for i, loss in enumerate(log.loss.tolist()):
        try:
            callback.on_train_batch_end(trainer, None, torch.tensor(loss), None, i)
        except TrainingSpikeException:
            alarms += _at(log, [i], "bad_batch" if math.isfinite(loss) else "non_finite")
    return alarms


def zclip(log: RunLog, z_thresh: float) -> list[Alarm]:
    """Take every gradient that ZClip scales down for an alarm, its fixed limit left out."""
    import torch
    from zclip import ZClip

    clip, model = ZClip(z_thresh=z_thresh, max_grad_norm=None), torch.nn.Linear(1, 1, bias=False)
    model.double()
    places = []
    for i, norm in enumerate(log.grad_norm.tolist()):
        model.weight.grad = torch.full((1, 1), norm, dtype=torch.float64)
        clip.step(model)
        if model.weight.grad.item() < norm:
            places.append(i)
    return _at(log, places)


_SOUP_NAMES = {
    "nan_loss": ("non_finite",),
    "loss_diverged": ("divergence", "rising_loss"),
    "loss_flat": ("no_learning", "lr_too_low", "weights_frozen_by_precision"),
    "lr_too_low": ("lr_too_low",),
    "lr_too_high": ("lr_too_high", "peak_lr"),
    "grad_norm_high": (None,),
}


def soup_why(log: RunLog) -> list[Alarm]:
    """Ask the rules of `soup why`; a finding counts for every kind that its words may mean."""
    from soup_cli.utils.why import diagnose

    rows = [{"step": s.step, "loss": s.loss, "grad_norm": s.grad_norm} for s in log.steps]
    found = diagnose(rows, {"training": {"lr": log.facts.learning_rate}})
    return [
        Alarm(None, kind)
        for finding in found
        if finding.severity != "info"
        for kind in _SOUP_NAMES[finding.category]
    ]


def loss_watchdog(log: RunLog, factor: float, patience: int = 3) -> list[Alarm]:
    """Alarm at the `patience`-th step in a row with a loss above a threshold, and those after it.

    There is no default threshold; its documentation advises twice the loss at the start.
    """
    high = log.loss > factor * log.loss[0]
    in_a_row, places = 0, []
    for i, above in enumerate(high.tolist()):
        in_a_row = in_a_row + 1 if above else 0
        if in_a_row >= patience:
            places.append(i)
    return _at(log, places)


def stability_monitor(log: RunLog, sigmas: float, window: int = 128) -> list[Alarm]:
    """Alarm at a loss or gradient norm above mean + sigmas x SD of a full window before it."""

    def spikes(values: np.ndarray) -> np.ndarray:
        if len(values) <= window:
            return np.zeros(0, dtype=bool)
        before, now = sliding_window_view(values, window)[:-1], values[window:]
        spread = before.std(axis=1)
        return (now > before.mean(axis=1) + sigmas * spread) & ~(spread < 1e-10)

    with np.errstate(invalid="ignore"):
        return _at(log, window + np.flatnonzero(spikes(log.loss) | spikes(log.grad_norm)))


def skip_step(log: RunLog, sigmas: float, window: int = 128) -> list[Alarm]:
    """Alarm where an update would be left out: as above, from half a window on.

    The SD is that of a sample, and what is no number leaves updates out while it is in the window.
    """

    def fine(values: np.ndarray, i: int) -> bool:
        before = values[max(i - window, 0) : i]
        return bool(values[i] - before.mean() <= sigmas * before.std(ddof=1))

    with np.errstate(invalid="ignore"):
        places = range(window // 2 - 1, len(log))
        skipped = [i for i in places if not (fine(log.loss, i) and fine(log.grad_norm, i))]
    return _at(log, skipped)


def kill_loss_spike(log: RunLog, multiplier: float, width: int = 100) -> list[Alarm]:
    """Alarm at five losses in a row of at least `multiplier` times the mean of a full window.

    And after two windows where half of the last one is above a cap: the highest loss of the first
    one, at most 10. That is as documented; in the code the cap stays at 10.
    """
    window: deque[float] = deque(maxlen=max(width, round(0.05 * len(log))))
    in_a_row, cap, places = 0, 10.0, []
    for i, loss in enumerate(log.loss.tolist()):
        if len(window) == window.maxlen:
            cap = min(max(window), 10.0) if i == window.maxlen else cap
            in_a_row = in_a_row + 1 if loss >= multiplier * fmean(window) else 0
            high = sum(value > cap for value in window) >= len(window) / 2
            if in_a_row > 4 or (high and i + 1 >= 2 * len(window)):
                places.append(i)
        window.append(loss)
    return _at(log, places)


@dataclass(frozen=True)
class Rival:
    """A rule, where it was taken from, and what of it can be set; names are as in its tool."""

    name: str
    rule: Rule
    settings: tuple[str, ...]
    defaults: tuple[tuple[float, ...], ...]
    grid: tuple[tuple[float, ...], ...] = ()
    package: str = ""
    source: str = ""

    def origin(self) -> str:
        """Say what was run or read, with its version."""
        if self.package:
            return f"its code, {self.package} {importlib.metadata.version(self.package)}"
        return f"its rule, read in {self.source}"


def _grid(*values: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    return tuple(itertools.product(*values))


# Windows as wide as the defaults never fill in short runs, so narrower ones are tried as well.
_SIGMAS, _WINDOWS = (3.0, 4.0, 6.0, 8.0, 10.0, 15.0), (8, 16, 32, 64, 128)
RIVALS = (
    Rival(
        "Hugging Face EarlyStoppingCallback",
        early_stopping,
        ("early_stopping_patience",),
        ((1,), (3,)),
        _grid((1, 2, 3, 4, 5, 6)),
        package="transformers",
    ),
    Rival(
        "Lightning SpikeDetection",
        spike_detection,
        ("rtol", "window"),
        ((2.0, 10),),
        _grid((0.2, 0.5, 1.0, 2.0), (10,)),
        package="pytorch-lightning",
    ),
    Rival(
        "axolotl loss watchdog",
        loss_watchdog,
        ("threshold / first loss", "patience"),
        ((2.0, 3),),
        _grid((0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0), (1, 2, 3)),
        source="axolotl 0.18.0, commit 067b021c8",
    ),
    Rival(
        "OLMo-core StabilityMonitor",
        stability_monitor,
        ("threshold_std", "window_size"),
        ((6.0, 128),),
        _grid(_SIGMAS, _WINDOWS),
        source="OLMo-core 2.5.0, commit fa6c5014c",
    ),
    Rival(
        "OLMo-core SkipStepOptimizer",
        skip_step,
        ("sigma_factor", "rolling_interval_length"),
        ((6.0, 128),),
        _grid(_SIGMAS, _WINDOWS),
        source="OLMo-core 2.5.0, commit fa6c5014c",
    ),
    Rival(
        "llm-foundry KillLossSpike",
        kill_loss_spike,
        ("outlier_multiplier", "window_size"),
        ((2.0, 100),),
        _grid((1.05, 1.1, 1.2, 1.3, 1.5, 2.0), (8, 16, 32, 100)),
        source="llm-foundry, commit 8c8dd48f7",
    ),
    Rival(
        "ZClip as an alarm",
        zclip,
        ("z_thresh",),
        ((2.5,),),
        _grid((*_SIGMAS, 25.0)),
        package="zclip",
    ),
    Rival("soup why", soup_why, (), ((),), package="soup-cli"),
)


def row(outcomes: Sequence[Outcome], values: Values) -> dict[str, object]:
    """Count what a rule detected, named and raised a false alarm on."""
    everything, strong = score(outcomes).pooled, score(outcomes, STRONG).pooled
    alarmed, healthy = false_alarms(outcomes)
    return {
        "values": values,
        "runs": everything.runs,
        "detected": everything.detected,
        "named": everything.right,
        "runs_strong": strong.runs,
        "detected_strong": strong.detected,
        "named_strong": strong.right,
        "healthy": healthy,
        "false_alarms": alarmed,
        "false_alarm_interval": clopper_pearson(alarmed, healthy) if healthy else None,
    }


def best_of(rows: Iterable[dict]) -> dict:
    """Choose among settings by their rows on the tuning logs, as the top of this file says."""

    def worth(found: dict) -> tuple[float, int]:
        allowed = _HEALTHY_ALARMS * found["healthy"]
        return -max(found["false_alarms"] - allowed, 0), found["detected"]

    return max(rows, key=worth)


def main() -> None:
    """Score the rivals on one split; settings are chosen with the tuning split, and kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("tuning", "scoring", "confirming"), required=True)
    options = parser.parse_args()
    kept = json.loads(RIVALS_FILE.read_text()) if RIVALS_FILE.exists() else {}
    chosen = {row["name"]: row["best_on_tuning"] for row in kept.get("tuning", [])}
    if options.split != "tuning" and not chosen:
        sys.exit("settings are chosen on the tuning logs: run --split tuning first")
    runs = read_split(options.split)
    table = []
    for rival in RIVALS:

        @cache
        def run(values: Values, rival: Rival = rival) -> dict:
            said = [Outcome(label_of(r), tuple(rival.rule(r.log, *values))) for r in runs]
            return row(said, values)

        best = None
        if rival.grid and options.split == "tuning":
            best = best_of(map(run, rival.grid))
        elif rival.grid:
            best = run(tuple(chosen[rival.name]["values"]))
        table.append(
            {
                "name": rival.name,
                "origin": rival.origin(),
                "settings": rival.settings,
                "defaults": [run(values) for values in rival.defaults],
                "best_on_tuning": best,
            }
        )
        print(json.dumps(rounded(table[-1])), flush=True)
    RIVALS_FILE.write_text(json.dumps(kept | {options.split: rounded(table)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
