"""Many clients at once: one order of everything, nothing twice, nobody waits for another's pile."""

from __future__ import annotations

import asyncio
import threading

import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.server.lanes import Allowances, Lane, Places, Rounds
from napari_sammed.server.refusals import Refusal
from tests.server import crowds
from tests.thresholder import Thresholder


def test_clients_of_one_session_are_answered_in_one_order(url):
    backend = LocalBackend("cpu", models={"thresholder": Thresholder()})
    counts = crowds.one_session_of_many(url, clients=4, prompts=6, model="thresholder", backend=backend)
    backend.shutdown()
    assert counts["answered"] == 24


def test_what_is_asked_again_is_counted_once(url):
    assert crowds.retries(url, calls=30, share=0.3, model="thresholder") > 3


def test_others_are_answered_beside_one_that_floods(url):
    found = crowds.neighbours(url, normal=3, clicks=3, flood=4, model="thresholder", pause=0.01)
    assert found["lost"] == 0 and found["flooded"] > 0


def test_rounds_are_fair_to_clients_and_to_the_sessions_of_each():
    async def order() -> list[str]:
        loop, rounds, names = asyncio.get_running_loop(), Rounds(), {}
        for client, session, count in [("flood", "1", 5), ("flood", "2", 2), ("a", "1", 2), ("b", "1", 1)]:
            for number in range(count):
                entry = loop.create_future()
                names[entry] = f"{client}{session}.{number}"
                rounds.add(client, session, entry)
        assert rounds.waiting("flood") == 7 and rounds.waiting("nobody") == 0
        taken = []
        while (found := rounds.take()) is not None:
            client, entry = found
            taken.append(names[entry])
            assert names[entry].startswith(client)
        return taken

    expected = "flood1.0 a1.0 b1.0 flood2.0 a1.1 flood1.1 flood2.1 flood1.2 flood1.3 flood1.4"
    assert asyncio.run(order()) == expected.split()


def test_clients_get_equal_time_whatever_their_questions_take_and_none_is_saved_up():
    async def shares() -> list[dict[str, float]]:
        loop, rounds, found = asyncio.get_running_loop(), Rounds(), []

        def serve(seconds: float) -> dict[str, float]:
            had = dict.fromkeys(costs, 0.0)
            while sum(had.values()) < seconds:
                client, _ = rounds.take()
                rounds.served(client, costs[client])
                had[client] += costs[client]
            return had

        costs = {"long": 5.0, "short": 1.0}
        for client in costs:
            for _ in range(200):
                rounds.add(client, "s", loop.create_future())
        found.append(serve(100))
        costs["late"] = 1.0  # has had nothing so far
        for _ in range(200):
            rounds.add("late", "s", loop.create_future())
        found.append(serve(150))
        return found

    first, second = asyncio.run(shares())
    assert all(abs(seconds - 50) <= 5 for seconds in first.values()), first
    assert all(abs(seconds - 50) <= 5 for seconds in second.values()), second


@pytest.mark.parametrize(("count", "each"), [(1, None), (2, 1)])
def test_who_came_while_one_was_at_work_goes_before_its_next_entry(count, each):
    async def run() -> list[str]:
        places, order = Places(count, most=9, each=each), []

        async def stay(name: str) -> None:
            await places.take(name, "s")
            order.append(name)
            await asyncio.sleep(0.02)
            places.leave(name)

        flood = [asyncio.create_task(stay("flood")) for _ in range(5)]
        await asyncio.sleep(0.01)  # the first is at work, and the others are in the row before those who come now
        await asyncio.gather(*flood, *(stay(name) for name in "abc"))
        return order

    order = asyncio.run(run())
    assert order[:4] == ["flood", "a", "b", "c"] if count == 1 else order[:3] == ["flood", "a", "b"], order


def test_who_takes_more_than_a_share_rests_while_others_are_at_work():
    own = Allowances(ahead=3, at_work=20)
    own.asks("person", 0.0)
    for second in range(4):
        own.served("flood", 1.0, float(second))
    assert own.rest("flood", 3.0) == 0, "a few seconds ahead are everybody's"
    own.served("flood", 1.0, 4.0)
    own.served("flood", 1.0, 5.0)
    assert own.rest("flood", 5.0) == pytest.approx(1.0), "half of 5 s, and 3 s ahead, are less than 6 s"
    assert own.rest("person", 5.0) == 0
    assert own.rest("flood", 6.0) == 0
    own.served("flood", 9.0, 15.0)
    assert own.rest("flood", 15.0) > 0
    assert own.rest("flood", 25.0) == 0, "nobody else is at work"


def test_a_pile_leaves_gaps_for_those_who_think_and_takes_all_when_alone():
    async def run() -> tuple[int, int]:
        places, done = Places(1, most=99, allowances=Allowances(ahead=0.02, at_work=0.4)), []

        async def stay(name: str) -> None:
            await places.take(name, "s")
            await asyncio.sleep(0.01)
            done.append(name)
            places.leave(name)

        await stay("person")
        flood = [asyncio.create_task(stay("flood")) for _ in range(60)]
        await asyncio.sleep(0.3)
        beside = done.count("flood")
        await asyncio.wait_for(asyncio.gather(*flood), 20)
        return beside, done.count("flood")

    beside, alone = asyncio.run(run())
    assert 1 <= beside <= 20, "half of the time, which is for 15, and what it may take ahead"
    assert alone == 60


def test_a_client_has_no_more_than_its_places_and_those_who_leave_take_none():
    async def run() -> list[str]:
        places, order = Places(3, most=4, each=2), []

        async def stay(client: str, go: asyncio.Event) -> None:
            await places.take(client, "s")
            order.append(client)
            await go.wait()
            places.leave(client)

        go = [asyncio.Event() for _ in range(6)]
        tasks = [asyncio.create_task(stay(client, event)) for client, event in zip("ffffab", go, strict=True)]
        await asyncio.sleep(0.01)
        assert order == ["f", "f", "a"], "the third place is not for the one who has two"
        tasks[2].cancel()  # it waits; the one behind it comes sooner
        go[4].set()
        await asyncio.sleep(0.01)
        assert order == ["f", "f", "a", "b"]
        go[0].set()
        await asyncio.sleep(0.01)
        assert order == ["f", "f", "a", "b", "f"]
        for event in go:
            event.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(asyncio.gather(*(places.take(c, "s") for c in "xyz")), 1)
        return order

    assert len(asyncio.run(run())) == 5


def test_a_place_is_free_again_however_its_work_ends():
    async def run() -> list[int]:
        lane, go_on, done = Lane("test", 1, most=3), threading.Event(), []

        def work(number: int) -> None:
            go_on.wait(10)
            done.append(number)
            if number == 0:
                raise ValueError

        cancels = [threading.Event() for _ in range(6)]
        tasks = [
            asyncio.create_task(lane.run("c", "s", lambda n=number: work(n), cancels[number])) for number in range(4)
        ]
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal) as refused:
            await lane.run("c", "s", lambda: None, cancels[4])
        assert refused.value.failure.code == "busy"
        await lane_of_another(lane, go_on, tasks, cancels)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], ValueError) and isinstance(results[1], asyncio.CancelledError)
        assert cancels[1].is_set() and not cancels[2].is_set()
        await lane.run("c", "s", lambda: done.append(9), cancels[5])
        lane.close()
        return done

    async def lane_of_another(lane, go_on, tasks, cancels) -> None:
        tasks[1].cancel()  # waits for its turn
        other = asyncio.create_task(lane.run("other", "s", lambda: None, threading.Event()))
        await asyncio.sleep(0.05)
        go_on.set()
        await other

    assert asyncio.run(run()) == [0, 2, 3, 9]
