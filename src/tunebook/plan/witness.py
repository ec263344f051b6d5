"""The same rows read a second time, straight from their files, to hold the tokens against.

A check that looks only at what the pipeline says of itself finds no fault in it. So some rows of
every source are read anew, taken through the filters one by one, and compared with what stands at
the end of the pipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunebook.records import Example


@dataclass(frozen=True, slots=True)
class Witness:
    """One row read anew. `example` is as the file has it, `expected` after the rewrites.

    `id` is the row's id at the end of the pipe. `dropped_by` names the filter that drops it when it
    is asked by itself; filters that compare rows are not asked.
    """

    source: str
    id: str
    example: Example
    expected: Example
    dropped_by: str | None
