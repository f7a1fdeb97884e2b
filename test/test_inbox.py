"""The inbox: the newest item of each sender wins, the longest waiting goes first."""

import threading
import time

from anomaly_seg_ros.node.inbox import Inbox


def test_the_newest_item_wins() -> None:
    inbox: Inbox[str, int] = Inbox()
    assert [inbox.put('a', item) for item in (1, 2, 3)] == [False, True, True]
    assert inbox.take() == [('a', 3)]
    assert inbox.put('a', 4) is False
    assert inbox.take() == [('a', 4)]


def test_an_item_that_is_false_counts() -> None:
    inbox: Inbox[int, int] = Inbox()
    assert inbox.put(0, 0) is False
    assert inbox.put(0, 0) is True
    assert inbox.take() == [(0, 0)]


def test_the_longest_waiting_goes_first_and_keeps_its_place() -> None:
    inbox: Inbox[str, int] = Inbox()
    for sender, item in (('slow', 1), ('fast', 2), ('late', 3), ('fast', 4), ('slow', 5)):
        inbox.put(sender, item)
    assert inbox.take() == [('slow', 5)]
    inbox.put('slow', 6)
    assert inbox.take(2) == [('fast', 4), ('late', 3)]
    assert inbox.take(2) == [('slow', 6)]


def test_nobody_starves_beside_a_fast_sender() -> None:
    inbox: Inbox[str, int] = Inbox()
    taken: list[str] = []
    for turn in range(30):
        for _ in range(5):
            inbox.put('fast', turn)
        if turn % 3 == 0:
            inbox.put('slow', turn)
        taken += [sender for sender, _ in inbox.take()]
    assert taken.count('slow') >= 9
    assert taken.count('fast') >= 15


def test_it_holds_one_item_of_a_sender() -> None:
    inbox: Inbox[int, int] = Inbox()
    dropped = sum(inbox.put(number % 3, number) for number in range(1000))
    assert dropped == 997
    assert inbox.take(1000) == [(0, 999), (1, 997), (2, 998)]


def test_take_waits_for_put() -> None:
    inbox: Inbox[str, int] = Inbox()
    taken: list[list[tuple[str, int]]] = []
    worker = threading.Thread(target=lambda: taken.append(inbox.take(2)))
    worker.start()
    assert taken == []
    inbox.put('a', 7)
    worker.join(20)
    assert taken == [[('a', 7)]]


def test_close_wakes_every_waiter_and_gives_what_lies_there() -> None:
    inbox: Inbox[str, int] = Inbox()
    taken: list[list[tuple[str, int]]] = []
    workers = [threading.Thread(target=lambda: taken.append(inbox.take())) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert inbox.close() == []
    for worker in workers:
        worker.join(20)
    assert taken == [[], [], []]
    assert inbox.put('a', 1) is True, 'dropped, and that is told'
    assert inbox.take() == []
    assert inbox.close() == []


def test_close_gives_each_item_once() -> None:
    inbox: Inbox[str, int] = Inbox()
    inbox.put('a', 1)
    inbox.put('b', 2)
    inbox.put('a', 3)
    assert inbox.close() == [('a', 3), ('b', 2)]
    assert inbox.close() == []
    assert inbox.take(2) == []


def test_a_slow_worker_never_sees_an_old_item_after_a_new_one() -> None:
    inbox: Inbox[str, int] = Inbox()
    taken: list[int] = []

    def work() -> None:
        while waiting := inbox.take(2):
            taken.extend(item for _, item in waiting)
            time.sleep(0.0002)

    worker = threading.Thread(target=work)
    worker.start()
    replaced = sum(inbox.put('a', item) for item in range(2000))
    deadline = time.monotonic() + 20
    while (not taken or taken[-1] != 1999) and time.monotonic() < deadline:
        time.sleep(0.001)
    inbox.close()
    worker.join(20)
    assert taken == sorted(set(taken))
    assert taken[-1] == 1999
    assert len(taken) + replaced == 2000
