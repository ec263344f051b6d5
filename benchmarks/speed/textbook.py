"""The loop of a textbook as a contender: pad to the longest row, model(labels=...), AdamW."""

from __future__ import annotations

from typing import Any

from cases import LORA_ALPHA, LORA_RANK, SEED, Work
from record import package_versions


def load_causal(work: Work, **kwargs: Any) -> Any:
    """Load the case's model, with its adapter where it has one: drawn as tunebook draws it."""
    import torch
    from transformers import AutoModelForCausalLM

    case = work.case
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32, **kwargs)
    model.to(case.device)
    if case.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    chosen: dict[str, Any] = {"target_modules": "all-linear"}
    if case.layers != "all":
        n_layers = model.config.num_hidden_layers
        last = int(case.layers.removeprefix("last:"))
        names = {n.rpartition(".")[2] for n, m in model.named_modules() if _is_linear(m)}
        chosen = {
            "target_modules": sorted(names - {"lm_head"}),
            "layers_to_transform": list(range(n_layers - last, n_layers)),
        }
    torch.manual_seed(SEED)
    return get_peft_model(
        model,
        LoraConfig(
            r=LORA_RANK, lora_alpha=LORA_ALPHA, lora_dropout=0.0, task_type="CAUSAL_LM", **chosen
        ),
    )


def _is_linear(module: Any) -> bool:
    return type(module).__name__ in ("Linear", "Conv1D")


def padded(rows: list[dict[str, Any]], pad_id: int = 0) -> dict[str, Any]:
    """Pad rows to the longest of them; labels of -100 carry no loss."""
    import torch

    length = max(len(row["ids"]) for row in rows)
    ids_BT = torch.full((len(rows), length), pad_id)
    mask_BT = torch.zeros((len(rows), length), dtype=torch.long)
    labels_BT = torch.full((len(rows), length), -100)
    for place, row in enumerate(rows):
        n = len(row["ids"])
        ids_BT[place, :n] = torch.tensor(row["ids"])
        mask_BT[place, :n] = 1
        labels_BT[place, :n] = torch.tensor(labels_of(row))
    return {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT}


def labels_of(row: dict[str, Any]) -> list[int]:
    return [t if flag else -100 for t, flag in zip(row["ids"], row["target"], strict=True)]


def target_tokens(rows: list[dict[str, Any]]) -> int:
    # The first token of a row is predicted from nothing.
    return sum(sum(row["target"][1:]) for row in rows)


def train(kind: str, work: Work, options: dict[str, Any], turns: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM  # noqa: F401  before memory is looked at

    case = work.case
    if case.method != "full":
        import peft  # noqa: F401
    turns.model_comes()
    model = load_causal(work)
    model.train()
    learns = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=case.learning_rate, weight_decay=0.0)
    turns.ready({"precision": "fp32", "micro": case.batch}, package_versions("torch"))
    for rows in work.step_rows():
        batch = {k: v.to(case.device) for k, v in padded(rows).items()}
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learns, case.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        turns.done(loss.item(), target_tokens(rows))
