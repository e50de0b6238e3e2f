from hypothesis import given
from hypothesis import strategies as st

from telemetron.demo.text import (
    Statistics,
    key_words,
    sentences,
    split,
    statistics,
    summarise,
    words,
)

TEXT = "Bees dance. The dance of the bees tells where flowers are! Who else dances? Nobody knows."


def test_words_and_sentences() -> None:
    assert words("It's a well-known Fact: 42 bees.") == ["it's", "a", "well-known", "fact", "bees"]
    assert sentences("One.\nTwo\n  lines! Three") == ["One.", "Two lines!", "Three"]
    assert sentences("") == []


def test_statistics() -> None:
    assert statistics(TEXT) == Statistics(16, 13, 4, 4.0)
    assert statistics("") == Statistics(0, 0, 0, 0.0)


def test_key_words() -> None:
    assert key_words(TEXT, 3) == ["bees", "dance", "tells"]
    assert key_words("The and of.") == []


def test_the_summary_is_the_sentences_that_say_most() -> None:
    assert summarise(TEXT, 1) == ["The dance of the bees tells where flowers are!"]
    assert summarise(TEXT, 9) == sentences(TEXT)
    assert summarise("So so. So so. Bees.", 2) == ["So so.", "Bees."]
    assert summarise("") == []


def test_sections_are_whole_paragraphs() -> None:
    sections = split("Title\n\none two\n\nthree\n\n\nfour five six\n", size=3)
    assert [(each.title, each.number, each.body) for each in sections] == [
        ("Title", 1, "one two\n\nthree"),
        ("Title", 2, "four five six"),
    ]
    assert split("") == []


@given(st.lists(st.text("ab .\n", min_size=1).filter(str.strip), min_size=1))
def test_nothing_is_lost_in_sections(paragraphs: list[str]) -> None:
    sections = split("Title\n" + "\n\n".join(paragraphs), size=4)
    assert [word for each in sections for word in words(each.body)] == words("\n".join(paragraphs))
    assert [each.number for each in sections] == list(range(1, len(sections) + 1))


@given(st.text("ab .!\n", max_size=200), st.integers(1, 5))
def test_a_summary_is_short_and_in_order(text: str, most: int) -> None:
    summary = summarise(text, most)
    order = [sentences(text).index(each) for each in summary]
    assert len(summary) <= most
    assert order == sorted(order)
