"""TensorBoard events of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from unidet.engine.run_folder import saving

#: Events are on disk after this many seconds of training.
FLUSH_SECONDS = 10.0


class Events:
    """Writes scalars in the caller's thread.

    tensorboardX's own ``SummaryWriter`` writes in a thread, where a full disk becomes a traceback
    on the terminal and a process that waits for ever on its queue.

    Args:
        folder: where the event file goes.
        step: where a resumed run goes on; TensorBoard hides what an earlier file says after it.

    Raises:
        RunFailedError: from here and from every method, when the system refuses a write.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._folder = folder
        self._event = Event
        self._flushed = time.monotonic()
        with saving(folder):
            # Names hold whole seconds: a run resumed at once must not replace what it goes on from.
            earlier = len(list(folder.glob("events.out.tfevents.*")))
            self._writer = EventsWriter(str(folder / "events"), filename_suffix=f".{earlier}")
            if step:
                log = SessionLog(status=SessionLog.START)
                self._writer.write_event(
                    Event(wall_time=time.time(), step=step + 1, session_log=log)
                )

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Scalars of one step by their names."""
        from tensorboardX.summary import scalar

        with saving(self._folder):
            for name, value in values.items():
                event = self._event(wall_time=time.time(), step=step, summary=scalar(name, value))
                self._writer.write_event(event)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Brings everything to the disk."""
        with saving(self._folder):
            self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Brings everything to the disk and closes the file."""
        with saving(self._folder):
            self._writer.close()
