"""What goes on beside the soak until it is stopped: a thread that is told to end, and ends between two of its steps."""

import threading


class Stoppable(threading.Thread):
    """One that runs until `stop`; its `run` looks at, or waits for, `stopping`."""

    def __init__(self, name: str) -> None:
        """Not begun yet: whoever makes one calls `start` when all that `run` needs is there."""
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()

    def stop(self) -> None:
        """Begin nothing more; returns when what is under way is over."""
        self.stopping.set()
        self.join()
