"""Score the rules of other tools on the fault benchmark's logs.

    pip install pytorch-lightning soup-cli zclip      # in an environment of its own
    python benchmarks/faults/rivals.py --split scoring --write

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
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
Rule = Callable[[RunLog, float], list[Alarm]]
_HEALTHY_ALARMS = 0.02


def _at(log: RunLog, places: Iterable[int], kind: str | None = None) -> list[Alarm]:
    return [Alarm(int(log.step[i]), kind) for i in places]


def early_stopping(log: RunLog, patience: float) -> list[Alarm]:
    """Drive Hugging Face's callback as its Trainer does; what it stands for is overfitting."""
    from transformers import EarlyStoppingCallback, TrainerControl, TrainerState

    callback = EarlyStoppingCallback(early_stopping_patience=int(patience))
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


def spike_detection(log: RunLog, rtol: float) -> list[Alarm]:
    """Drive Lightning's callback; it blames the batch, or a loss that is no number."""
    import torch
    from lightning_fabric.utilities.spike import TrainingSpikeException
    from pytorch_lightning.callbacks import SpikeDetection

    callback = SpikeDetection(rtol=rtol, exclude_batches_path="skip_batches.json")
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


def soup_why(log: RunLog, _: float) -> list[Alarm]:
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


def loss_watchdog(log: RunLog, factor: float) -> list[Alarm]:
    """Alarm at the third step in a row with a loss above a threshold, and at those after it.

    There is no default threshold; its documentation advises twice the loss at the start.
    """
    high = log.loss > factor * log.loss[0]
    in_a_row, places = 0, []
    for i, above in enumerate(high.tolist()):
        in_a_row = in_a_row + 1 if above else 0
        if in_a_row >= 3:
            places.append(i)
    return _at(log, places)


def stability_monitor(log: RunLog, sigmas: float) -> list[Alarm]:
    """Alarm at a loss or gradient norm above mean + sigmas x SD of the last 128 steps, if full."""

    def spikes(values: np.ndarray) -> np.ndarray:
        if len(values) <= 128:
            return np.zeros(0, dtype=bool)
        before, now = sliding_window_view(values, 128)[:-1], values[128:]
        spread = before.std(axis=1)
        return (now > before.mean(axis=1) + sigmas * spread) & ~(spread < 1e-10)

    with np.errstate(invalid="ignore"):
        return _at(log, 128 + np.flatnonzero(spikes(log.loss) | spikes(log.grad_norm)))


def skip_step(log: RunLog, sigmas: float) -> list[Alarm]:
    """Alarm where an update would be left out: as above, from half a window of 128 on.

    The SD is that of a sample, and what is no number leaves updates out while it is in the window.
    """

    def fine(values: np.ndarray, i: int) -> bool:
        before = values[max(i - 128, 0) : i]
        return bool(values[i] - before.mean() <= sigmas * before.std(ddof=1))

    with np.errstate(invalid="ignore"):
        skipped = (
            i for i in range(63, len(log)) if not (fine(log.loss, i) and fine(log.grad_norm, i))
        )
        return _at(log, skipped)


def kill_loss_spike(log: RunLog, multiplier: float) -> list[Alarm]:
    """Alarm at five losses in a row of `multiplier` times the mean of the last 100, or more.

    And from step 200 on where half of those 100 are above a cap: the highest loss of the first
    100 steps, at most 10. That is as documented; in the code the cap stays at 10.
    """
    window: deque[float] = deque(maxlen=max(100, round(0.05 * len(log))))
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
    setting: str
    defaults: tuple[float, ...]
    grid: tuple[float, ...] = ()
    packages: tuple[str, ...] = ()
    source: str = ""

    def origin(self) -> str:
        """Say what was run or read, with its version."""
        if not self.packages:
            return f"its rule, read in {self.source}"
        versions = (f"{name} {importlib.metadata.version(name)}" for name in self.packages)
        return f"its code, {', '.join(versions)}"


_SIGMAS = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0)
RIVALS = (
    Rival(
        "Hugging Face EarlyStoppingCallback",
        early_stopping,
        "early_stopping_patience",
        (1, 3),
        (1, 2, 3, 4, 5, 6),
        ("transformers",),
    ),
    Rival(
        "Lightning SpikeDetection",
        spike_detection,
        "rtol",
        (2.0,),
        (0.1, 0.2, 0.3, 0.5, 1.0, 2.0),
        ("pytorch-lightning",),
    ),
    Rival(
        "axolotl loss watchdog",
        loss_watchdog,
        "threshold in losses of step 1,",
        (2.0,),
        (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0),
        source="axolotl 0.18.0, commit 067b021c8",
    ),
    Rival(
        "OLMo-core StabilityMonitor",
        stability_monitor,
        "threshold_std",
        (6.0,),
        _SIGMAS,
        source="OLMo-core 2.5.0, commit fa6c5014c",
    ),
    Rival(
        "OLMo-core SkipStepOptimizer",
        skip_step,
        "sigma_factor",
        (6.0,),
        _SIGMAS,
        source="OLMo-core 2.5.0, commit fa6c5014c",
    ),
    Rival(
        "llm-foundry KillLossSpike",
        kill_loss_spike,
        "outlier_multiplier",
        (2.0,),
        (1.05, 1.1, 1.2, 1.3, 1.5, 2.0),
        source="llm-foundry, commit 8c8dd48f7",
    ),
    Rival("ZClip as an alarm", zclip, "z_thresh", (2.5,), (*_SIGMAS, 25.0), ("zclip",)),
    Rival("soup why", soup_why, "", (0.0,), packages=("soup-cli",)),
)


def outcomes_of(rival: Rival, runs: Sequence, value: float) -> list[Outcome]:
    """Run a rule over runs at one value of its setting."""
    return [Outcome(label_of(run), tuple(rival.rule(run.log, value))) for run in runs]


def row(outcomes: Sequence[Outcome], value: float) -> dict[str, object]:
    """Count what a rule detected, named and raised a false alarm on."""
    everything, strong = score(outcomes).pooled, score(outcomes, STRONG).pooled
    alarmed, healthy = false_alarms(outcomes)
    return {
        "value": value,
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


def best_value(rival: Rival, tuning: Sequence) -> float:
    """Choose a setting on the tuning logs, as the top of this file says."""

    def worth(value: float) -> tuple[float, int]:
        found = row(outcomes_of(rival, tuning, value), value)
        allowed = _HEALTHY_ALARMS * found["healthy"]
        return -max(found["false_alarms"] - allowed, 0), found["detected"]

    return max(rival.grid, key=worth)


def main() -> None:
    """Score the rivals on one split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("tuning", "scoring"), default="scoring")
    parser.add_argument("--write", action="store_true", help=f"keep them in {RIVALS_FILE.name}")
    options = parser.parse_args()
    tuning = read_split("tuning")
    runs = tuning if options.split == "tuning" else read_split(options.split)
    table = []
    for rival in RIVALS:
        rows = [row(outcomes_of(rival, runs, value), value) for value in rival.defaults]
        best = None
        if rival.grid:
            value = best_value(rival, tuning)
            best = row(outcomes_of(rival, runs, value), value)
        table.append(
            {
                "name": rival.name,
                "origin": rival.origin(),
                "setting": rival.setting,
                "defaults": rows,
                "best_on_tuning": best,
            }
        )
        print(json.dumps(rounded(table[-1])), flush=True)
    if options.write:
        kept = json.loads(RIVALS_FILE.read_text()) if RIVALS_FILE.exists() else {}
        RIVALS_FILE.write_text(json.dumps(kept | {options.split: rounded(table)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
