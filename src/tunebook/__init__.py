"""A workbench for fine-tuning open-weight language models that keeps the lab notebook itself."""

__version__ = "0.1.0"
