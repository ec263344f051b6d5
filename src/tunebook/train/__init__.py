"""The training loop and what a run must save to go on: records out, nothing written by itself."""
