"""Who waits in which order, and for how long what was asked is remembered."""

from cloud.fleet.requests import Requests
from user_rl.ask import Ask, RobotsAsk

ONE, TWO = Ask(), Ask(robots=RobotsAsk(count=2))


def runs(requests: Requests) -> list[str]:
    return [request.run for request in requests.waiting()]


def test_asking_again_keeps_the_place_and_changes_the_request() -> None:
    requests = Requests(ttl_s=10)
    for run in ("first", "second", "first"):
        requests.ask(run, TWO if requests.waits("first") else ONE, 0.0)
    assert [(request.run, request.ask) for request in requests.waiting()] == [("first", TWO), ("second", TWO)]


def test_a_run_that_is_satisfied_or_gives_up_waits_no_more_and_comes_last_when_it_asks_again() -> None:
    requests = Requests(ttl_s=10)
    for run in ("first", "second"):
        requests.ask(run, ONE, 0.0)
    requests.satisfied("first")
    requests.satisfied("nobody")
    assert runs(requests) == ["second"]
    requests.ask("first", ONE, 1.0)
    assert runs(requests) == ["second", "first"]


def test_a_request_that_is_not_repeated_is_forgotten() -> None:
    requests = Requests(ttl_s=10)
    requests.ask("gone", ONE, 0.0)
    requests.ask("here", ONE, 5.0)
    requests.forget(10.0, holders=())
    assert runs(requests) == ["gone", "here"]
    requests.forget(10.1, holders=())
    assert runs(requests) == ["here"]
    assert not requests.waits("gone")


def test_what_was_asked_is_remembered_while_the_run_holds_anything() -> None:
    requests = Requests(ttl_s=10)
    requests.ask("holds", TWO, 0.0)
    requests.satisfied("holds")
    requests.forget(100.0, holders={"holds"})
    assert requests.asks() == {"holds": TWO}
    requests.forget(100.0, holders=())
    assert requests.asks() == {}
