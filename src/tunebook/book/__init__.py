"""Run folders, events, checkpoints and their index: everything a book is on disk."""
