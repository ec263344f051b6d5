"""Run the command line as `python -m tunebook`."""

from __future__ import annotations

import sys

from tunebook.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
