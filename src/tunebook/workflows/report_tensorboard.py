"""Write a run as event files of TensorBoard, into `tensorboard/` of its folder.

The folder is written anew from the book whenever the run goes on, so that it holds every step once
however often the run was broken off. A TensorBoard that is open meanwhile is told to forget.
"""

from __future__ import annotations

import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunebook.book.codec import dump_json

_OWN = ".tunebook"
_QUEUE = 1000


class TensorBoardLogger:
    """Scalars by step, and words as text; see `report_values.Logger`."""

    def __init__(self, folder: Path, config: str) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(exist_ok=True)
        # Files of others in the folder stay.
        self._older = sorted(folder.glob(f"events.out.tfevents.*{_OWN}"))
        self._writer = EventFileWriter(
            str(folder), max_queue_size=_QUEUE, flush_secs=10, filename_suffix=_OWN
        )
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(0, clock.time(), session_log=start)
        self.words("config", 0, f"```yaml\n{config}\n```", clock.time())

    def number(self, kind: str, step: int, values: Mapping[str, float], time: float) -> None:
        """Write scalars of a step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step, time, summary=Summary(value=numbers))

    def words(self, name: str, step: int, text: str, time: float) -> None:
        """Write Markdown of a step."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        tensor = TensorProto(
            dtype=DT_STRING, tensor_shape=TensorShapeProto(), string_val=[text.encode()]
        )
        about = create_summary_metadata(display_name=name, description="")
        value = Summary.Value(tag=f"{name}/text_summary", metadata=about, tensor=tensor)
        self._add(step, time, summary=Summary(value=[value]))

    def flush(self) -> None:
        """Write what waits; from the first time on the files of earlier attempts are not needed."""
        self._writer.flush()
        for path in self._older:
            path.unlink(missing_ok=True)
        self._older = []

    def end(self, state: str, summary: Mapping[str, object]) -> None:
        """Write what the run came to, and close the file."""
        text = dump_json({"state": state, **summary}, indent=True).decode()
        step = summary.get("step")
        self.words(
            "result", step if isinstance(step, int) else 0, f"```json\n{text}```", clock.time()
        )
        self.flush()
        self._writer.close()

    def _add(self, step: int, time: float, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time, step=step, **content))
