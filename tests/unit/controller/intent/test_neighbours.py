"""The neighbours of routers: their limits, their queues, and when they are due."""

from __future__ import annotations

from libnetvirt.controller.intent.neighbours import NETWORK_QUEUE_LIMIT, QUEUE_LIMIT, Neighbour, Neighbours

MAC, OTHER = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"


def address(number: int) -> bytes:
    return bytes((10, 0, number >> 8, number & 255))


def learned(known: Neighbours, number: int, due: float = 10.0, endpoint: str = "1") -> Neighbour:
    found = known.learn("7", endpoint, address(number), MAC, due)
    assert found is not None
    return found


def test_those_that_are_due_come_in_order_and_removed_ones_hold_up_none() -> None:
    known = Neighbours(10)
    late, gone, first, moved = (learned(known, n, due) for n, due in enumerate((9.0, 1.0, 2.0, 3.0)))
    known.remove(gone)
    known.learn("7", "1", moved.address, OTHER, 8.0)  # it has answered, and is due later
    assert list(known.take_due(0.5)) == []
    assert list(known.take_due(5.0)) == [first]
    assert list(known.take_due(5.0)) == [], "until it is due again"
    known.reschedule(first, 8.5)
    assert list(known.take_due(9.0)) == [moved, first, late]
    again = learned(known, 1, 20.0)
    assert again is not gone
    assert list(known.take_due(20.0)) == [again]
    known.remove_network("7")
    learned(known, 5, 30.0, endpoint="2")
    assert [n.endpoint for n in known.take_due(99.0)] == ["2"]


def test_known_and_incomplete_ones_are_limited_per_endpoint_and_apart() -> None:
    known = Neighbours(2)
    assert [known.add_incomplete("7", "1", address(n), 1.0) is None for n in range(3)] == [False, False, True]
    assert known.dropped == 1
    assert known.learn("7", "1", address(8), MAC, 1.0) is not None
    one = known.find("7", "1", address(0))
    assert one is known.learn("7", "1", address(0), MAC, 1.0), "it has answered"
    assert known.learn("7", "1", address(1), MAC, 1.0) is None
    assert known.learn("7", "1", address(8), OTHER, 1.0) is not None, "a known one may change"
    assert known.add_incomplete("7", "1", address(5), 1.0) is not None, "one less is incomplete"
    assert known.add_incomplete("7", "2", address(5), 1.0) is not None
    assert {n.address for n in known.known("7")} == {address(8), address(0)}
    known.remove(next(known.known("7")))
    assert known.learn("7", "1", address(1), MAC, 1.0) is not None
    assert len(known.at("7", "1")) == 3


def test_of_a_full_queue_the_oldest_packet_is_dropped_and_of_a_full_network_the_newest() -> None:
    known = Neighbours(100)
    ends = [
        known.add_incomplete("7", "1", address(n), 1.0) for n in range(NETWORK_QUEUE_LIMIT // QUEUE_LIMIT + 1)
    ]
    first, *others, last = [n for n in ends if n is not None]
    for n in range(QUEUE_LIMIT + 3):
        known.enqueue(first, b"%d" % n)
    assert (first.overflow, known.dropped) == (3, 3)
    assert list(first.queue) == [b"%d" % n for n in range(3, QUEUE_LIMIT + 3)]
    for other in others:
        for _ in range(QUEUE_LIMIT):
            known.enqueue(other, b"x")
    assert known.dropped == 3
    known.enqueue(last, b"one too many")
    assert (list(last.queue), last.overflow, known.dropped) == ([], 1, 4)
    stranger = known.add_incomplete("8", "1", address(1), 1.0)
    assert stranger is not None
    known.enqueue(stranger, b"of another network")
    assert len(stranger.queue) == 1
    assert known.take_queued(first)[0] == b"3"
    assert known.take_queued(first) == []
    for _ in range(QUEUE_LIMIT):
        known.enqueue(last, b"room again")
    assert (len(last.queue), known.dropped) == (QUEUE_LIMIT, 4)
    known.enqueue(first, b"full again")
    assert known.dropped == 5
    known.remove(last)
    known.enqueue(first, b"room again")
    assert known.dropped == 5
