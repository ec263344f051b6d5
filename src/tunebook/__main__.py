"""Run the command line as `python -m tunebook`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

if __name__ == "__main__":
    # Python looks in the working folder first, and that may be a stranger's book. Where tunebook
    # itself lies there, it is looked through last, for the processes that are started.
    with suppress(OSError):  # the folder is gone
        if not sys.flags.safe_path and sys.path[0] == (here := os.getcwd()):
            del sys.path[0]
            if os.path.samefile(os.path.dirname(os.path.dirname(__file__)), here):
                sys.path.append(here)

    from tunebook.cli.main import main

    sys.exit(main())
