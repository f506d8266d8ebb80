"""A cable with a delay, made of two raw sockets: the kernels that tests run on may lack netem."""

from __future__ import annotations

import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from tests.support.lab.wire import Wire

#: the longest wait, in seconds, before the thread checks whether to end
_POLL = 0.05


class DelayLine:
    """Forwards frames between two interfaces in both directions, each after ``seconds``, if it ``passes``;
    both may change.

    A context manager.
    """

    def __init__(self, one: str, other: str, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.passes: Callable[[bytes], bool] = lambda _: True
        self._wires = Wire(one), Wire(other)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{one} to {other}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for wire in self._wires:
            wire.close()

    def _run(self) -> None:
        waiting: deque[tuple[float, Wire, bytes]] = deque()
        with selectors.DefaultSelector() as selector:
            for wire, far in (self._wires, self._wires[::-1]):
                selector.register(wire, selectors.EVENT_READ, far)
            while not self._over.is_set():
                left = waiting[0][0] - time.monotonic() if waiting else _POLL
                for key, _ in selector.select(max(0.0, min(left, _POLL))):
                    near = key.fileobj
                    assert isinstance(near, Wire)
                    due = time.monotonic() + self.seconds
                    while (frame := near.receive()) is not None:
                        if self.passes(frame):
                            waiting.append((due, key.data, frame))
                while waiting and waiting[0][0] <= time.monotonic():
                    _, far, frame = waiting.popleft()
                    far.send(frame)
