"""The mailbox: the newest item wins, and closing wakes whoever waits."""

import threading
import time

from anomaly_seg_ros.node.inbox import Mailbox


def test_the_newest_item_wins() -> None:
    mailbox: Mailbox[int] = Mailbox()
    assert [mailbox.put(item) for item in (1, 2, 3)] == [False, True, True]
    assert mailbox.take() == 3
    assert mailbox.put(4) is False
    assert mailbox.take() == 4


def test_an_item_that_is_false_counts() -> None:
    mailbox: Mailbox[int] = Mailbox()
    assert mailbox.put(0) is False
    assert mailbox.put(0) is True
    assert mailbox.take() == 0


def test_take_waits_for_put() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    worker = threading.Thread(target=lambda: taken.append(mailbox.take()))
    worker.start()
    assert taken == []
    mailbox.put(7)
    worker.join(20)
    assert taken == [7]


def test_close_wakes_every_waiter_and_drops_what_lies_there() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    workers = [threading.Thread(target=lambda: taken.append(mailbox.take())) for _ in range(3)]
    for worker in workers:
        worker.start()
    mailbox.close()
    for worker in workers:
        worker.join(20)
    assert taken == [None, None, None]
    mailbox.put(1)
    assert mailbox.take() is None


def test_close_drops_an_item() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.close()
    assert mailbox.take() is None


def test_a_slow_worker_never_sees_an_old_item_after_a_new_one() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int] = []

    def work() -> None:
        while (item := mailbox.take()) is not None:
            taken.append(item)
            time.sleep(0.0002)

    worker = threading.Thread(target=work)
    worker.start()
    replaced = sum(mailbox.put(item) for item in range(2000))
    deadline = time.monotonic() + 20
    while (not taken or taken[-1] != 1999) and time.monotonic() < deadline:
        time.sleep(0.001)
    mailbox.close()
    worker.join(20)
    assert taken == sorted(set(taken))
    assert taken[-1] == 1999
    assert len(taken) + replaced == 2000
