"""HF Trainer and TRL's SFTTrainer as contenders; a callback makes them wait for their turn.

Options: `micro` (rows of a micro-batch, the rest accumulated), `sorted` (rows of a step by length
before they are cut into micro-batches), `flatten` (rows end to end, without padding); anything else
is a field of TrainingArguments or SFTConfig.
"""

from __future__ import annotations

import tempfile
from typing import Any

from cases import Work
from record import package_versions
from textbook import labels_of, load_causal


def train(kind: str, work: Work, options: dict[str, Any], turns: Any) -> None:
    import torch  # noqa: F401
    from transformers import TrainerCallback

    case = work.case
    if case.method != "full":
        import peft  # noqa: F401
    if kind == "trl":
        from trl import SFTConfig as Arguments
        from trl import SFTTrainer as Base
    else:
        from transformers import Trainer as Base
        from transformers import TrainingArguments as Arguments
    steps = work.step_rows()
    named = dict(options)
    micro = named.pop("micro", case.batch)
    if named.pop("sorted", False):
        steps = [sorted(rows, key=lambda row: len(row["ids"])) for rows in steps]
    flatten = named.pop("flatten", False)
    if kind == "trl" and flatten:
        # It refuses to cut rows that it lays end to end; none here is longer than the model takes.
        named |= {"padding_free": True, "max_length": None}

    class Waiting(TrainerCallback):
        """Reports on a step where the next one begins, so that fetching rows is in a turn."""

        def __init__(self) -> None:
            self.loss, self.targets, self.step = 0.0, 0, 0

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.step:
                turns.done(float(self.loss), int(self.targets))
            self.loss, self.targets, self.step = 0.0, 0, self.step + 1

    waiting = Waiting()

    class Timed(Base):  # type: ignore[misc, valid-type]
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            # Counted of what it is really given.
            waiting.targets = waiting.targets + (inputs["labels"][:, 1:] != -100).sum()
            # The trainer's own: what a micro-batch adds to the mean over the whole step's tokens.
            found = super().training_step(model, inputs, *args, **kwargs)
            waiting.loss = waiting.loss + found
            return found

        def train(self, *args: Any, **kwargs: Any) -> Any:
            said = {"micro": micro, "precision": "bf16" if self.args.bf16 else "fp32", **options}
            packages = ("torch", "transformers", "accelerate", "peft", "trl")
            turns.ready(said, package_versions(*packages[: 5 if kind == "trl" else 4]))
            return super().train(*args, **kwargs)

    with tempfile.TemporaryDirectory() as folder:
        arguments = Arguments(
            output_dir=folder,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=case.batch // micro,
            learning_rate=case.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=case.max_grad_norm,
            train_sampling_strategy="sequential",
            num_train_epochs=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=case.device == "cpu",
            **{"bf16": case.device != "cpu", **named},
        )
        turns.model_comes()
        model = load_causal(work)
        given = _trl(work, steps) if kind == "trl" else _plain(work, steps, flatten)
        Timed(model=model, args=arguments, callbacks=[waiting], **given).train()


def _plain(work: Work, steps: list[list[dict[str, Any]]], flatten: bool) -> dict[str, Any]:
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, DataCollatorWithFlattening

    tokenizer = AutoTokenizer.from_pretrained(work.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    features = [
        {"input_ids": row["ids"], "labels": labels_of(row)}
        | ({} if flatten else {"attention_mask": [1] * len(row["ids"])})
        for rows in steps
        for row in rows
    ]
    collator = DataCollatorWithFlattening() if flatten else DataCollatorForSeq2Seq(tokenizer)
    return {"train_dataset": features, "data_collator": collator}


def _trl(work: Work, steps: list[list[dict[str, Any]]]) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoTokenizer

    rows = [row for of_step in steps for row in of_step]
    # With labels of its own TRL takes a row as it is.
    columns = {
        "input_ids": [row["ids"] for row in rows],
        "labels": [labels_of(row) for row in rows],
    }
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    return {"train_dataset": Dataset.from_dict(columns), "processing_class": tokenizer}
