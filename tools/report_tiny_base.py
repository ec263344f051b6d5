"""Score the model that ``make_tiny_base.py`` exported, and write its card from the figures.

Writes ``report.json`` and ``README.md`` into the model folder and, with ``--results``, a page of
figures. Bits per byte rather than perplexity, because the models compared cut text differently.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from make_tiny_base import MAX_SEQ_LEN, SEED, VOCAB_SIZE


@torch.no_grad()
def bits_per_byte(folder: Path, text: str) -> float:
    """Bits the model needs for each UTF-8 byte of ``text``, every token scored exactly once.

    Windows are as long as the model's context and step by half of it, so that all tokens but
    those of the first window are predicted from at least half a context.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
    context = model.config.max_position_embeddings
    nats, scored = 0.0, 0  # scored: how many of ids[1:] have been counted
    for start in range(0, len(ids) - 1, context // 2):
        window = torch.tensor([ids[start : start + context + 1]])
        logits = model(input_ids=window[:, :-1]).logits[0]
        losses = cross_entropy(logits, window[0, 1:], reduction="none")
        nats += losses[scored - start :].double().sum().item()
        scored = start + len(losses)
        if scored == len(ids) - 1:
            break
    return nats / math.log(2) / len(text.encode())


def unigram_bits_per_byte(work: Path, text: str) -> float:
    """The same for a model that only knows how often each token is, add-one smoothed."""
    counts = np.bincount(np.load(work / "tokens.npy"), minlength=VOCAB_SIZE) + 1
    bits = -np.log2(counts / counts.sum())
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    return float(bits[tokenizer.encode(text)].sum()) / len(text.encode())


def continuations(folder: Path) -> list[dict[str, str]]:
    """What the model writes, unedited: each prompt once, the first drawn sample kept."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = cast(Any, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())
    rows = []
    for how, prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")
        drawn = {"temperature": 0.8, "top_p": 0.95} if how == "sampled" else {}
        torch.manual_seed(SEED)
        made = model.generate(**ids, max_new_tokens=80, do_sample=bool(drawn), **drawn)
        text = tokenizer.decode(made[0][ids["input_ids"].shape[1] :], skip_special_tokens=True)
        rows.append({"how": how, "prompt": prompt, "text": str(text)})
    return rows


def report(work: Path, args: argparse.Namespace) -> None:
    """Score the exported model; write report.json and README.md beside it, and the results page."""
    out: Path = args.out
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    scores: dict[str, dict[str, float]] = {}
    for path in sorted((work / "held-back").glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        row = {
            "tunebook/tiny": bits_per_byte(out, text),
            "unigram": unigram_bits_per_byte(work, text),
        }
        for folder in args.compare:
            row[folder.name] = bits_per_byte(folder, text)
        scores[path.stem] = {name: round(value, 4) for name, value in row.items()}
        print(path.stem, scores[path.stem], flush=True)
    log = [json.loads(line) for line in (work / "train-log.jsonl").read_text().splitlines()]
    # By step, because a resumed run logs the steps since its checkpoint a second time.
    by_step = {row["step"]: row["loss"] for row in log}
    losses = [by_step[state["step"] - back] for back in range(50)]
    model = AutoModelForCausalLM.from_pretrained(out)
    facts = {
        "date": args.date,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": state["step"],
        "tokens_seen": state["tokens"],
        "training_tokens": len(np.load(work / "tokens.npy", mmap_mode="r")),
        "wall_minutes": round(state["seconds"] / 60, 1),
        "last_50_steps_loss": round(sum(losses) / len(losses), 4),
        "settings": {name: state["settings"][name] for name in SETTINGS},
        "note": args.note,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "bits_per_byte": scores,
        "continuations": continuations(out),
        "sources": json.loads((work / "sources.json").read_text()),
    }
    (out / "report.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(card(facts), encoding="utf-8")
    if args.results is not None:
        args.results.parent.mkdir(parents=True, exist_ok=True)
        args.results.write_text(
            "# tunebook/tiny: how it was made and what it scores\n" + figures(facts)
        )


SETTINGS = (
    "steps",
    "micro_batch_size",
    "learning_rate",
    "warmup_steps",
    "decay_fraction",
    "max_grad_norm",
)

PROMPTS = (
    ("greedy", "The old man"),
    ("greedy", "In this paper we"),
    ("sampled", "It was a dark evening in November, and"),
    ("sampled", '"I do not believe a word of it," said'),
    ("sampled", "The Moon is"),
)


def figures(facts: dict[str, Any]) -> str:
    """Recipe, scores and samples as Markdown."""
    settings, versions = facts["settings"], facts["versions"]
    fall = f"a straight fall to zero over the last {settings['decay_fraction']:.0%} of the steps"
    batch = settings["micro_batch_size"]
    epochs = facts["tokens_seen"] / facts["training_tokens"]
    names = list(next(iter(facts["bits_per_byte"].values())))
    lines = [
        "",
        f"Made on {facts['date']} with `tools/make_tiny_base.py`, torch {versions['torch']}, "
        f"transformers {versions['transformers']}, fp32 on two CPU cores shared with other work.",
        "",
        f"- {facts['parameters']:,} weights; {facts['steps']:,} steps of {batch} windows of "
        f"{MAX_SEQ_LEN} tokens: {facts['tokens_seen']:,} tokens seen of "
        f"{facts['training_tokens']:,} ({epochs:.2f} epochs), "
        f"{facts['wall_minutes']} minutes.",
        f"- AdamW, betas 0.9 and 0.95, weight decay 0.1 on matrices, `learning_rate` "
        f"{settings['learning_rate']}, `warmup_steps` {settings['warmup_steps']}, then constant, "
        f"then {facts['note'] or fall}; `max_grad_norm` {settings['max_grad_norm']}; seed {SEED}.",
        f"- Training loss, mean of the last 50 steps: {facts['last_50_steps_loss']} nats a token.",
        "",
        "Bits per byte (total nats / ln 2 / UTF-8 bytes of the text, lower is better) on text that "
        "was not trained on. Windows of each model's context (512), stride 256, each token scored "
        "once; the same text for all. `unigram`: add-one smoothed token counts of the training "
        "texts.",
        "",
        "| text | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for text, row in facts["bits_per_byte"].items():
        lines.append(f"| {text} | " + " | ".join(f"{row[name]:.3f}" for name in names) + " |")
    lines += ["", "Continuations, unedited, 80 tokens (sampled: temperature 0.8, top_p 0.95):", ""]
    for row in facts["continuations"]:
        text = (row["prompt"] + "**" + row["text"].rstrip() + "**").replace("\n", "\n> ")
        lines += [f"{row['how']}:", "", f"> {text}", ""]
    return "\n".join(lines)


def card(facts: dict[str, Any]) -> str:
    """The model card."""
    novels = [name for name in facts["sources"] if re.search(r"_\d{4}$", name)]
    parts = [name.replace("Cbronte", "C. Brontë").split("_") for name in novels]
    named = "; ".join(f"{author}, *{TITLES[title]}* ({year})" for author, title, year in parts)
    abstracts = facts["sources"]["arxiv-abstracts"]["documents"]
    return CARD.format(novels=named, count=len(novels), abstracts=abstracts, **facts) + figures(
        facts
    )


TITLES = {
    "Rosary": "The Rosary", "Erema": "Erema", "Springhaven": "Springhaven",
    "Phantom": "Phantom Fortune", "Shirley": "Shirley", "Villette": "Villette",
    "Innocence": "The Innocence of Father Brown", "Nostromo": "Nostromo", "Innocent": "Innocent",
    "Bleak": "Bleak House", "Expectations": "Great Expectations", "Lost": "The Lost World",
    "Micah": "Micah Clarke", "Felix": "Felix Holt", "Ruth": "Ruth",
    "Wives": "Wives and Daughters", "Warburton": "Will Warburton", "Tragic": "The Tragic Muse",
    "Kim": "Kim", "Light": "The Light That Failed", "Marriage": "The Amazing Marriage",
    "Trooper": "Trooper Peter Halket of Mashonaland", "Treasure": "Treasure Island",
}  # fmt: skip

CARD = """---
license: apache-2.0
language: en
---

# tunebook/tiny

A very small English base model, trained from nothing for the demonstrations and tests of tunebook,
so that a fine-tuning run can be shown in a minute on any computer, without a download.

**It is not a useful model.** It writes sentences that look like English and mean little, it knows
no facts, and it follows no instructions until it is fine-tuned. Do not rely on anything it writes.

- Architecture: `LlamaForCausalLM`, {parameters:,} weights (fp16), 6 layers, 256 wide, MLP 512 wide,
  4 attention heads over 2 key-value heads, context 512, tied embeddings.
- Tokenizer: byte-level BPE, 4,096 tokens, trained on the same texts; any text can be encoded and
  comes back unchanged. `<|endoftext|>` begins documents and ends texts, `<|pad|>` pads; neither is
  added by itself. No chat template.
- Licence: Apache-2.0, as tunebook; the training texts are listed below.

## Training texts

- {count} novels, public domain (published 1849-1914, authors dead for over 80 years), from the
  collection `computationalstylistics/100_english_novels`: {novels}.
- Shakespeare, the "tinyshakespeare" selection: public domain.
- {abstracts:,} titles and abstracts of arXiv (physics and astronomy, to 2017), arXiv's metadata:
  CC0 1.0; compiled by `staeiou/arxiv_archive`, DOI 10.5281/zenodo.1463242.
- *Astronomy 2e* (Andrew Fraknoi, David Morrison, Sidney C. Wolff) and *University Physics*, volumes
  1-3 (William Moebs, Samuel J. Ling, Jeff Sanny), OpenStax, Rice University, at editions under
  CC BY 4.0 (<https://creativecommons.org/licenses/by/4.0/>). Access for free at
  <https://openstax.org>. Changed: turned into plain text, formulas as LaTeX-like text, figures and
  (University Physics) exercises left out. OpenStax does not endorse this model.

Changes to the novels: hard line breaks inside paragraphs were undone, runs of blanks made one.
Abstracts were taken once for each arXiv id. Held back and never trained on: Haggard, *King
Solomon's Mines* (1885) and Trollope, *The Warden* (1855): neither author is among those above.

## Limits

Old prose and physics abstracts only: its English is Victorian or academic, it carries the views and
prejudices of its time, and it has met no dialogue with an assistant, no code, and next to no other
language. It was stopped long before it had learned all that a model of its size can learn.

## Recipe and figures
"""


def main() -> None:
    """Read the command line and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="the folder it was made in")
    parser.add_argument("--out", type=Path, required=True, help="the exported model folder")
    parser.add_argument("--compare", type=Path, action="append", default=[], help="model folder")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="for the card")
    parser.add_argument("--note", default="", help="how the rate fell, if replanned")
    parser.add_argument("--results", type=Path, help="page to write the figures to")
    args = parser.parse_args()
    report(args.work, args)


if __name__ == "__main__":
    main()
