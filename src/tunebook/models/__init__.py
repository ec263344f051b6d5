"""The only door to transformers and peft: models, adapters, tokenizers, generation, saving."""
