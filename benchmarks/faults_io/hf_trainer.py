"""The same kills and damages against Hugging Face's Trainer, for comparison.

    python benchmarks/faults_io/hf_trainer.py --count 60 --damages 60 --seed 0

The same toy model is trained by `transformers.Trainer` for 40 steps at its documented settings:
`save_steps=2`, `save_total_limit=3`, `resume_from_checkpoint=True` once there is a checkpoint. It
needs `accelerate`, which tunebook itself does not.

Kills come at moments drawn as in `kills.py`: half of them uniform over an attempt, half a moment
after the n-th checkpoint folder of the attempt appears. A run whose next attempt fails counts as
not resumable; its newest checkpoint is then deleted by hand, as its owner would, and it goes on.

Damages are those of `damage.py`, one file of the newest checkpoint each time, every kind as often
as any other; then the run is resumed to its end. What comes out is counted by whether it said
anything and whether its weights are those of a run that nothing happened to.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import damage
import forked
import toy
from report import arguments, reported, scratch

STEPS = 40
HUNG_SECONDS = 60


def train(folder: Path, model: Path, then: Callable[[int], None] = lambda _step: None) -> None:
    """Train or resume with Hugging Face's Trainer; `then` is called after every checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    class Saved(TrainerCallback):
        def on_save(self, args: object, state: object, control: object, **_rest: object) -> None:
            then(state.global_step)

    rng = random.Random(3)
    rows = []
    for _ in range(40):
        ids = [rng.randrange(1, 257) for _ in range(12)]
        rows.append({"input_ids": torch.tensor(ids), "labels": torch.tensor(ids)})
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        save_steps=2,
        save_total_limit=3,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=arguments,
        train_dataset=rows,
        callbacks=[Saved()],
    )
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")) or None)
    trainer.save_model(str(folder / "final"))


def start(folder: Path, model: Path, then: Callable[[int], None] = lambda _step: None) -> int:
    """Train in a fork, its output in `said`; gives its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        said = os.open(folder.with_suffix(".said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        warnings.simplefilter("ignore")
        train(folder, model, then)
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """Give the exit code of a fork, negative for a signal: -SIGKILL where it hung for a minute.

    Its libraries start threads as they are imported, and a fork of those may hang; that is none of
    the Trainer's faults.
    """
    ends = time.monotonic() + HUNG_SECONDS
    while not ended(pid):
        if time.monotonic() > ends:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ended(pid: int) -> bool:
    """Tell whether a fork ended, leaving it to `wait`."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def checkpoints(folder: Path) -> list[Path]:
    """List checkpoint folders, oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))


def weights(folder: Path) -> dict[str, bytes]:
    """Read the bytes of every tensor of the final weights."""
    from safetensors.numpy import load_file

    found = load_file(folder / "final" / "model.safetensors")
    return {key: value.tobytes() for key, value in found.items()}


def await_moment(pid: int, folder: Path, rng: random.Random, seconds: float) -> bool:
    """Wait for the moment of a kill; gives whether it is near a save."""
    near_save = rng.random() < 0.5
    if not near_save:
        ends = time.monotonic() + rng.uniform(0, seconds)
        while not ended(pid) and time.monotonic() < ends:
            time.sleep(0.001)
        return False
    known = {path.name for path in folder.glob("checkpoint-*")}
    seen: set[str] = set()
    wanted = rng.randint(1, 4)
    ends = time.monotonic() + HUNG_SECONDS
    while not ended(pid) and len(seen) < wanted and time.monotonic() < ends:
        with contextlib.suppress(FileNotFoundError):
            seen |= {n for n in os.listdir(folder) if n.startswith("checkpoint-")} - known
        time.sleep(0.0003)
    time.sleep(rng.uniform(0, 0.06))
    return True


def main() -> int:
    """Kill and damage so often as asked."""
    parser = arguments(__doc__, 60)
    parser.add_argument("--damages", type=int, default=60)
    options = parser.parse_args()
    forked.prepare()
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # jemalloc has a thread of its own
    import accelerate  # noqa: F401
    import transformers.trainer  # noqa: F401

    rng = random.Random(options.seed)
    with scratch() as base, reported("hf_trainer", options) as counts:
        model = toy.make_model(base / "toy")
        (base / "whole").mkdir()
        began = time.monotonic()
        assert wait(start(base / "whole", model)) == 0, (base / "whole.said").read_text()
        seconds = min(time.monotonic() - began, 4.0)
        whole = weights(base / "whole")
        (base / "again").mkdir()
        assert wait(start(base / "again", model)) == 0
        assert weights(base / "again") == whole, "the Trainer does not repeat itself here"

        done = n_runs = 0
        while done < options.count:
            run = base / f"run-{n_runs}"
            run.mkdir()
            n_runs += 1
            while True:
                pid = start(run, model)
                if done < options.count:
                    near = await_moment(pid, run, rng, seconds)
                    if not ended(pid):
                        os.kill(pid, signal.SIGKILL)
                        wait(pid)
                        done += 1
                        counts["kills near a save" if near else "kills anywhere"] += 1
                        continue
                code = wait(pid)
                if code == 0:
                    break
                if code == -signal.SIGKILL:
                    counts["attempts left out: the fork hung"] += 1
                    continue
                counts["attempts that could not resume until a checkpoint was deleted"] += 1
                print(run.with_suffix(".said").read_text().strip().splitlines()[-1][:150])
                shutil.rmtree(checkpoints(run)[-1])
            same = weights(run) == whole
            counts["runs ended in the same weights" if same else "runs ended in others"] += 1
            shutil.rmtree(run)

        aside = base / "aside"
        aside.mkdir()
        assert wait(start(aside, model, lambda step: step == 20 and os._exit(9))) == 9
        for _ in range(options.damages):
            run = base / "damaged"
            shutil.copytree(aside, run)
            before, newest = checkpoints(run)[-2:]
            cases = damage.one_of_a_kind_and_file(list(damage.damages(newest, before, rng)))
            case = rng.choice(cases)
            case.spoil(newest)
            code = wait(start(run, model))
            if code == -signal.SIGKILL:
                counts["damages left out: the fork hung"] += 1
                shutil.rmtree(run)
                continue
            what = f"{case.kind}, {case.names[0]}"
            if code != 0:
                counts["damaged: the resume failed"] += 1
            elif weights(run) == whole:
                counts["damaged: the same weights all the same"] += 1
            else:
                counts["damaged: exit 0, other weights, nothing said of the file"] += 1
                print(f"silently other weights: {what}", flush=True)
            shutil.rmtree(run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
