"""From files to batches: read, filter, render, tokenize, split, pack, order."""
