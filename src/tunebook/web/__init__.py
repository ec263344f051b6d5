"""The book on pages: a small server on this machine, and the same pages as one file."""
