"""LitGPT as a contender: its model, its collator, its chunked loss, in the manner of its script.

Its script adds up means of micro-batches, which is another loss than the mean over a step's tokens
unless a step is one micro-batch; here each is weighted by its target tokens. Options: `micro`,
`sorted` as of the trainers, and `head_chunk`, the tokens per chunk of the head (0 in its full.py,
128 in its lora.py).
"""

from __future__ import annotations

from typing import Any

from cases import Work
from record import package_versions
from textbook import labels_of, target_tokens


def train(kind: str, work: Work, options: dict[str, Any], turns: Any) -> None:
    import lightning
    import torch
    from litgpt.data.base import get_sft_collate_fn
    from litgpt.model import GPT
    from litgpt.utils import chunked_cross_entropy
    from safetensors.torch import load_file

    case = work.case
    micro = options.get("micro", 1)
    head_chunk = options.get("head_chunk", 0)
    steps = work.step_rows()
    if options.get("sorted"):
        steps = [sorted(rows, key=lambda row: len(row["ids"])) for rows in steps]
    turns.model_comes()
    accelerator = "cpu" if case.device == "cpu" else "gpu"
    precision = "32-true" if case.device == "cpu" else "bf16-true"
    fabric = lightning.Fabric(accelerator=accelerator, devices=1, precision=precision)
    with fabric.init_module(empty_init=False):
        model = GPT(_config(work))
    weights = load_file(f"{work.model}/model.safetensors")
    model.load_state_dict(_converted(model.config, weights))
    del weights
    model = fabric.setup(model)
    if options.get("torch_compile"):
        model = torch.compile(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=case.learning_rate, weight_decay=0.0, fused=options.get("fused")
    )
    optimizer = fabric.setup_optimizers(optimizer)
    collate = get_sft_collate_fn()
    model.max_seq_length = max(len(row["ids"]) for rows in steps for row in rows)
    model.train()
    said = {
        "precision": "fp32" if case.device == "cpu" else "bf16",
        "micro": micro,
        "head_chunk": head_chunk,
        **options,
    }
    turns.ready(said, package_versions("torch", "litgpt", "lightning"))
    for rows in steps:
        in_step, total = target_tokens(rows), 0.0
        for start in range(0, len(rows), micro):
            part = rows[start : start + micro]
            batch = fabric.to_device(collate([_sample(row) for row in part]))
            with fabric.no_backward_sync(model, enabled=start + micro < len(rows)):
                logits = model(batch["input_ids"], lm_head_chunk_size=head_chunk)
                targets = batch["labels"][..., 1:]
                if head_chunk:
                    logits[-1] = logits[-1][..., :-1, :]
                else:
                    logits = logits[..., :-1, :]
                loss = chunked_cross_entropy(logits, targets) * (target_tokens(part) / in_step)
                fabric.backward(loss)
            total += loss.item()
        fabric.clip_gradients(model, optimizer, max_norm=case.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        turns.done(total, in_step)


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {
        "input_ids": torch.tensor(row["ids"]),
        "labels": torch.tensor(labels_of(row)),
        "token_counts": {"raw": len(row["ids"]), "raw_plus_prompt_template": len(row["ids"])},
    }


def _config(work: Work) -> Any:
    import json
    from pathlib import Path

    from litgpt.config import Config

    found = json.loads((Path(work.model) / "config.json").read_bytes())
    if found["model_type"] != "llama":
        raise SystemExit("litgpt runs on the Llama shapes")
    return Config(
        name="llama",
        block_size=found["max_position_embeddings"],
        vocab_size=found["vocab_size"],
        padded_vocab_size=found["vocab_size"],
        n_layer=found["num_hidden_layers"],
        n_head=found["num_attention_heads"],
        n_query_groups=found["num_key_value_heads"],
        n_embd=found["hidden_size"],
        intermediate_size=found["intermediate_size"],
        rotary_percentage=1.0,
        rope_base=int(found.get("rope_theta") or found["rope_parameters"]["rope_theta"]),
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=found["rms_norm_eps"],
        mlp_class_name="LLaMAMLP",
    )


def _converted(config: Any, weights: dict[str, Any]) -> dict[str, Any]:
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama

    found: dict[str, Any] = {}
    copy_weights_hf_llama(config, {}, found, weights)
    return found
