"""Ask an exported folder as anybody would load it: with transformers and peft, nothing else.

Run as a script in a process of its own: none of this project's code is imported there.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig


def load(
    folder: str,
    base: str | None,
    quantization: dict[str, Any] | None,
    rows: int | None,
    rounded: bool,
) -> Any:
    """Load a whole model, or an adapter on its base, in fp32.

    The base is put into 4 bits, or given so many rows of embedding, or `rounded` to bf16, where
    that is asked for.
    """
    options: dict[str, Any] = {"dtype": torch.bfloat16 if rounded else torch.float32}
    options |= {"trust_remote_code": False, "use_safetensors": True}
    if quantization is not None:
        config = BitsAndBytesConfig(**quantization, bnb_4bit_compute_dtype=torch.float32)
        options |= {"quantization_config": config, "device_map": {"": "cpu"}}
    stated = AutoConfig.from_pretrained(base or folder, trust_remote_code=False)
    # What a config says of kernels might fetch one; None leaves them to transformers.
    stated._attn_implementation = stated._experts_implementation = None
    model = AutoModelForCausalLM.from_pretrained(base or folder, config=stated, **options)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # it would compute in bf16
            module.support_avx512bf16_for_cpu = False
    if rounded:
        for parameter in model.parameters():
            parameter.data = parameter.data.float()
    if rows is not None:
        model.resize_token_embeddings(rows)
    if base is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder)
    return model.eval()


@torch.no_grad()
def log_probs(model: Any, ids: list[int]) -> list[float]:
    """Give the log-probability of every token of a row but the first, in nats."""
    ids_1T = torch.tensor([ids])
    logits_TV = model(input_ids=ids_1T).logits[0, :-1].float()
    chosen_T = torch.log_softmax(logits_TV, -1).gather(-1, ids_1T[0, 1:, None])[:, 0]
    found: list[float] = chosen_T.tolist()
    return found


def ask_ids(tokenizer: Any, chat: list[dict[str, str]]) -> list[int]:
    """Give the tokens of a talk up to its next answer, by the tokenizer's own chat template."""
    return list(tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"])


def main() -> None:
    """Read what is asked as JSON and write the answer, as JSON too, as the last line."""
    asked = json.load(sys.stdin)
    base = [asked[key] for key in ("base", "quantization", "embeddings", "rounded")]
    try:
        model = load(asked["folder"], *base)
        tokenizer = AutoTokenizer.from_pretrained(asked["folder"], trust_remote_code=False)
    except Exception as error:
        # Said of what was exported; whatever else goes wrong here is this script's own fault.
        print("\n" + json.dumps({"not_loaded": f"{type(error).__name__}: {error}"}))
        return
    answer = {
        "log_probs": [log_probs(model, row) for row in asked["rows"]],
        "encoded": [tokenizer(text)["input_ids"] for text in asked["texts"]],
        "asked": [ask_ids(tokenizer, chat) for chat in asked["chats"]],
    }
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
