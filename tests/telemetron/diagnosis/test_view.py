"""The view: entities are evaluated again if, and only if, something that they read has changed."""

from telemetron.diagnosis.indexes import indexes
from telemetron.diagnosis.trend import Trends
from telemetron.diagnosis.view import Index, View, spread
from telemetron.document import ModelDeployment, Queue
from telemetron.store.store import Store
from telemetron.testing import FakeClock

Q, M = ("queues", "kafka/q/-"), ("litellm", "kafka/1")


class Seen:
    """A store with one source, and the view of it."""

    def __init__(self) -> None:
        self.store = Store("test", FakeClock())
        self.source = self.store.add("kafka", "litellm")
        self.source.start(60)
        self.source.confirm()
        self.store.flush()
        self.view = View(self.store.snapshot, indexes(), Trends())

    def queue(self, depth: int) -> None:
        self.store.put(self.source, "queues", "q", "q", Queue(name="q", depth=depth))
        self.store.flush()

    def model(self, name: str) -> None:
        part = ModelDeployment(id="1", model=name, status="healthy")
        self.store.put(self.source, "litellm", "1", "1", part)
        self.store.flush()

    def again(self, *changed: tuple[str, str]) -> set[tuple[str, str]]:
        """Show the newest snapshot; return the entities to be evaluated again."""
        return {ref for refs in self.view.show(self.store.snapshot, changed) for ref in refs}


def test_a_reader_is_evaluated_again_when_what_it_got_changes() -> None:
    seen = Seen()
    seen.queue(1)
    seen.again(Q)
    seen.view.evaluate(M)
    assert seen.view.get(*Q).depth == 1
    seen.view.evaluated()
    seen.queue(2)
    assert seen.again(Q) == {Q, M}
    seen.view.evaluate(M)  # it reads nothing now
    seen.view.evaluated()
    assert seen.again(Q) == {Q}


def test_a_reader_is_evaluated_again_when_what_it_missed_comes_and_goes() -> None:
    seen = Seen()
    seen.view.evaluate(Q)
    assert seen.view.find("deployments of model", "m") == []
    seen.view.evaluated()
    seen.model("m")
    assert seen.again(M) == {Q, M}
    assert [one.key for one in seen.view.find("deployments of model", "m")] == [M[1]]
    seen.store.remove(seen.source, "litellm", "1")
    seen.store.flush()
    assert seen.again(M) == {Q, M}
    assert seen.view.find("deployments of model", "m") == []


def test_a_model_is_served_by_its_name_or_a_pattern() -> None:
    seen = Seen()
    assert seen.view.serves_models
    seen.model("openai/*")
    seen.again(M)
    assert [one.key for one in seen.view.serving("openai/gpt-4o")] == [M[1]]
    assert seen.view.serving("gpt-4o") == []


def test_an_index_forgets_the_terms_that_an_entity_no_longer_has() -> None:
    index = Index("queues", lambda queue: [queue.name])
    assert index.update("key", Queue(name="a")) == {"a"}
    assert index.update("key", Queue(name="b")) == {"a", "b"}
    assert (index.keys("a"), index.keys("b")) == ([], ["key"])
    assert index.update("key", None) == {"b"}
    assert list(index) == []


def served(view: View, model: str) -> bool:
    """A fact: whether any deployment serves the model."""
    return bool(view.find("deployments of model", model))


def test_a_fact_is_found_once_and_its_readers_are_evaluated_again_only_if_it_changes() -> None:
    seen, calls = Seen(), []

    def fact(view: View, model: str) -> bool:
        calls.append(model)
        return served(view, model)

    for ref in (Q, M):
        seen.view.evaluate(ref)
        assert seen.view.fact(fact, "m") is False
    seen.view.evaluated()
    assert len(calls) == 1
    seen.model("m")
    assert seen.again(M) == {Q, M}
    assert (seen.view.fact(fact, "m"), len(calls)) == (True, 2)
    seen.view.evaluate(Q)
    seen.view.fact(fact, "m")
    seen.view.evaluated()
    seen.model("m")
    assert seen.again(M) == {M}  # it was found again, and is the same
    assert len(calls) == 3


def test_a_fact_of_a_fact_follows_what_the_inner_one_has_read() -> None:
    seen = Seen()

    def outer(view: View) -> str:
        return "served" if view.fact(served, "m") else "missed"

    seen.view.evaluate(Q)
    assert seen.view.fact(outer) == "missed"
    seen.view.evaluated()
    seen.model("m")
    assert seen.again(M) == {Q, M}
    assert seen.view.fact(outer) == "served"


def test_a_fact_that_nobody_asks_for_any_more_is_not_found_again() -> None:
    seen, calls = Seen(), []

    def fact(view: View) -> int:
        calls.append(None)
        return view.count("deployments of model", "m")

    seen.view.evaluate(Q)
    seen.view.fact(fact)
    seen.view.evaluate(Q)  # it asks no longer
    seen.view.evaluated()
    seen.model("m")
    assert seen.again(M) == {M}
    assert len(calls) == 1
    assert seen.view.fact(fact) == 1


def test_a_fact_that_changes_with_time_is_found_again() -> None:
    seen = Seen()

    def is_old(view: View) -> bool:
        view.revisit()
        return view.monotonic > 10

    seen.view.evaluate(Q)
    assert seen.view.fact(is_old) is False
    seen.view.evaluated()
    assert [ref for refs in seen.view.revisited() for ref in refs] == []
    seen.view.monotonic = 11
    assert [ref for refs in seen.view.revisited() for ref in refs] == [Q]


def test_a_fact_that_is_asked_for_before_it_is_found_again_is_new_and_its_readers_hear_of_it() -> (
    None
):
    seen = Seen()
    seen.view.evaluate(Q)
    assert seen.view.fact(served, "m") is False
    seen.view.evaluated()
    seen.model("m")
    steps = seen.view.show(seen.store.snapshot, [M])
    assert list(next(steps)) == [M]
    assert seen.view.fact(served, "m") is True  # in between, as for a hold that ends
    assert [ref for refs in steps for ref in refs] == [Q]


def test_a_fact_may_read_a_thing_in_several_ways() -> None:
    seen = Seen()

    def model(view: View) -> tuple[bool, int]:
        return view.get(*M) is not None, view.count("deployments of model", "m")

    seen.view.evaluate(Q)
    assert seen.view.fact(model) == (False, 0)
    seen.view.evaluated()
    seen.model("m")
    assert seen.again(M) == {Q, M}
    assert seen.view.fact(model) == (True, 1)


def test_what_is_remembered_of_an_entity_goes_with_it() -> None:
    seen = Seen()
    seen.queue(1)
    seen.again(Q)
    seen.view.homes[Q[1]] = ["w"]
    seen.store.remove(seen.source, "queues", "q")
    seen.store.flush()
    seen.again(Q)
    assert seen.view.homes == {}


def test_of_many_a_few_are_spread_evenly() -> None:
    assert [*spread(range(3), 3)] == [0, 1, 2]
    assert [*spread(range(10), 3)] == [0, 3, 6]
