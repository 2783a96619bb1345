"""What a Python service did, one JSON line per operation: the ground truth that spans are counted against.

This is file I/O of the service itself, not tracing: nothing of it travels to another service.
"""

import json
import os
import threading
import time
import uuid

_lock = threading.Lock()
_log = open(os.environ["TRUTH_LOG"], "a", encoding="utf-8")
_service = os.environ["TRUTH_SERVICE"]


class Work:
    """One request served or message handled, with everything done for it. `order` may become known late."""

    def __init__(self, order=None):
        self.order = order
        self.entries = []
        self.cause = None

    def begin(self, kind, **facts):
        """Starts an operation; the first one is the cause of all others."""
        entry = {"nonce": uuid.uuid4().hex, "service": _service, "pid": os.getpid(), "kind": kind,
                 "cause": self.cause, "start_ns": time.time_ns(), **facts}
        if self.cause is None:
            self.cause = entry["nonce"]
        self.entries.append(entry)
        return entry

    @staticmethod
    def end(entry, **facts):
        entry.update(facts)
        entry["end_ns"] = time.time_ns()

    def write(self):
        """Puts all operations on file, with the order they turned out to belong to."""
        lines = "".join(json.dumps({**entry, "order": self.order}) + "\n" for entry in self.entries)
        with _lock:
            _log.write(lines)
            _log.flush()
