"""Two threads: one gets ready what waits, the other runs it in one pass and hands it back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import threading
import time
from typing import Generic, Protocol, TypeVar

from anomaly_seg_ros.frames.pipeline import run_engine
from anomaly_seg_ros.frames.result import Prepared
from anomaly_seg_ros.prediction import Engine, Prediction

from .handover import Handover
from .inbox import Inbox

END_S = 10.0
"""How long the frames in work may take to end."""

Message = TypeVar('Message')
MessageIn = TypeVar('MessageIn', contravariant=True)


class Client(Protocol[MessageIn]):
    """A camera as the worker sees it."""

    def prepare(self, message: MessageIn) -> Prepared | None:
        """Gives what the engine needs of an image, None where it shall not be processed.

        It comes from the first thread, maybe while an image before is finished in the second.
        """
        ...

    def finish(self, message: MessageIn, prepared: Prepared, prediction: Prediction) -> None:
        """Takes what the engine gave."""
        ...

    def fail(self, error: Exception) -> None:
        """Hears, from either thread, why a frame was lost."""
        ...

    def discard(self) -> None:
        """Hears, from any thread, that an image waited in vain when the worker was stopped."""
        ...


@dataclass(frozen=True)
class FrameInWork(Generic[Message]):
    """An image on its way through the engine."""

    client: Client[Message]
    message: Message
    prepared: Prepared

    def hand_back(self, prediction: Prediction) -> None:
        """Gives the camera what the engine gave."""
        try:
            self.client.finish(self.message, self.prepared, prediction)
        except Exception as error:  # noqa: BLE001 - one frame must not end the thread
            self.client.fail(error)


class Worker(Generic[Message]):
    """Runs the newest image of each camera through the engine, in threads of its own.

    While one pass is in the engine the images of the next are decoded and made small, so that a
    free core makes compressed images as fast as raw ones. An engine is not safe between threads:
    nothing else may call it between `start` and `stop`. What is wrong with one frame does not
    touch the others of its pass, and never ends a thread.

    Args:
        engine: Shared by all cameras.
        most: Frames of one pass at most: the number of cameras.
    """

    def __init__(self, engine: Engine, most: int):
        self._engine = engine
        self._most = most
        self._inbox: Inbox[Client[Message], Message] = Inbox()
        self._ready: Handover[FrameInWork[Message]] = Handover()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._prepare_all, name='preparation', daemon=True),
            threading.Thread(target=self._infer_all, name='inference', daemon=True),
        ]

    def start(self) -> None:
        """Begins to take images."""
        for thread in self._threads:
            thread.start()

    def put(self, client: Client[Message], message: Message) -> bool:
        """Hands in the newest image of a camera; tells whether one was dropped that waited."""
        return self._inbox.put(client, message)

    def stop(self) -> None:
        """Discards what waits, and lets the frames in work end.

        Raises:
            RuntimeError: They have not ended in `END_S`; engine and topics are still in use.
        """
        self._stopped = True
        for client, _ in self._inbox.close():
            client.discard()
        end = time.monotonic() + END_S
        for thread in self._threads:
            if thread.ident is None:
                return  # never started
            thread.join(max(end - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in self._threads):
            raise RuntimeError(
                f'a frame has not ended after {END_S:.0f} s; engine and topics stay as they are, '
                'because it may still use them'
            )

    def _prepare_all(self) -> None:
        while True:
            self._ready.wait_until_due()
            waiting = self._inbox.take(self._most)
            if not waiting:
                break
            began = time.monotonic()
            frames = [frame for entry in waiting for frame in _ready(*entry)]
            self._ready.put(frames, time.monotonic() - began)
        self._ready.close()

    def _infer_all(self) -> None:
        while frames := self._ready.take():
            if self._stopped:
                for frame in frames:
                    frame.client.discard()
            else:
                self._infer(frames)

    def _infer(self, frames: Sequence[FrameInWork[Message]]) -> None:
        """Runs frames in one pass, or one by one where the pass fails."""
        try:
            predictions = run_engine(self._engine, [frame.prepared for frame in frames])
        except Exception as error:  # noqa: BLE001 - likewise
            if len(frames) == 1:
                frames[0].client.fail(error)
                return
            for frame in frames:
                self._infer([frame])
            return
        for frame, prediction in zip(frames, predictions, strict=True):
            frame.hand_back(prediction)


def _ready(client: Client[Message], message: Message) -> Iterator[FrameInWork[Message]]:
    """Gives the frame of a message, or nothing where it has none or cannot be used."""
    try:
        prepared = client.prepare(message)
    except Exception as error:  # noqa: BLE001 - likewise
        client.fail(error)
        return
    if prepared is not None:
        yield FrameInWork(client, message, prepared)
