"""Run the command line as `python -m tunebook`."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Python looks in the working folder first, and that may be a stranger's book.
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():
        del sys.path[0]

    from tunebook.cli.main import main

    sys.exit(main())
