"""Says that an engine is being built while that keeps the executor's thread busy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import threading
import time

from anomaly_seg_ros.engines.building import BuildNotice

BEAT_S = 1.0
BEATS_OF_A_LINE = 10


class BuildWatch:
    """What the node knows of the engine that it builds, if it has to build one.

    Args:
        publish: Publishes the diagnostics; called from another thread.
        say: Logs a line; likewise.
        is_wanted: Whether the node is to go on.

    Attributes:
        text: What is said of the build; '' while there is none.
        seconds: How long it has taken so far, or took; None where there was none.
    """

    def __init__(
        self,
        publish: Callable[[], None],
        say: Callable[[str], object],
        is_wanted: Callable[[], bool],
    ):
        self._publish, self._say, self._is_wanted = publish, say, is_wanted
        self._began = 0.0
        self.text = ''
        self.seconds: float | None = None

    @contextmanager
    def watched(self) -> Iterator[Callable[[BuildNotice], None]]:
        """Gives what is to be called when a build begins; keeps how long it took."""
        self.text, self.seconds = '', None
        notices: list[BuildNotice] = []
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(ended,), name='build', daemon=True)

        def begins(notice: BuildNotice) -> None:
            if not self._is_wanted():
                # A library that a signal met at its import may have made "not installed" of it.
                raise KeyboardInterrupt
            notices.append(notice)
            self.text, self.seconds, self._began = notice.text, 0.0, time.monotonic()
            self._publish()
            beat.start()

        try:
            yield begins
        finally:
            ended.set()
            if notices:
                beat.join()
                self.text, self.seconds = '', time.monotonic() - self._began
        for notice in notices:
            notice.keep(self.seconds or 0.0)

    def _beat(self, ended: threading.Event) -> None:
        beats = 0
        while not ended.wait(BEAT_S):
            beats += 1
            self.seconds = time.monotonic() - self._began
            self._publish()
            if beats % BEATS_OF_A_LINE == 0:
                self._say(f'{self.text}; {self.seconds:.0f} s so far')
