"""Text analysis for the researchers: sections, word statistics, key words, key sentences."""

import re
from collections import Counter
from dataclasses import dataclass

_WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

_COMMON = """
    a about above after again all almost also always an and another any are as at away back be
    because become been before begin being both but by can cannot day do does each else enough even
    ever every far few first for from had has have he her his how if in into is it its itself just
    keep large last less like little long made make many may more most much must near no none not
    now of off on once one only or other others our out over own same second set several she should
    since so some still such take than that the their them then there these they thing third this
    those though through time to together too two under until up upon us use very was we well were
    what when where which while who whole whose why will with without work would year yet you
"""
COMMON = frozenset(_COMMON.split())
"""Words that do not show the subject of a text."""


@dataclass(frozen=True)
class TextSection:
    """Consecutive whole paragraphs of a text."""

    title: str
    number: int
    body: str


@dataclass(frozen=True)
class Statistics:
    """Counts of a text; sentence_length is the mean, in words."""

    words: int
    distinct: int
    sentences: int
    sentence_length: float


def split(text: str, size: int = 120) -> list[TextSection]:
    """Return sections of at least `size` words; the first line of the text is the title."""
    title, _, rest = text.strip().partition("\n")
    bodies: list[str] = []
    for paragraph in filter(None, map(str.strip, rest.split("\n\n"))):
        if bodies and len(words(bodies[-1])) < size:
            bodies[-1] += "\n\n" + paragraph
        else:
            bodies.append(paragraph)
    return [TextSection(title, number, body) for number, body in enumerate(bodies, 1)]


def words(text: str) -> list[str]:
    """Return the words in lower case, in order."""
    return _WORD.findall(text.lower())


def sentences(text: str) -> list[str]:
    """Return the sentences, each on one line."""
    return [" ".join(each.split()) for each in _SENTENCE_END.split(text.strip()) if each]


def statistics(text: str) -> Statistics:
    """Count the words and the sentences of a text."""
    found, spoken = words(text), len(sentences(text))
    length = round(len(found) / spoken, 1) if spoken else 0.0
    return Statistics(len(found), len(set(found)), spoken, length)


def key_words(text: str, most: int = 5) -> list[str]:
    """Return the most frequent words except common ones; equals in order of appearance."""
    return [word for word, _ in _frequencies(text).most_common(most)]


def summarise(text: str, most: int = 2) -> list[str]:
    """Return the sentences whose words are the most frequent ones on average, in order."""
    frequency = _frequencies(text)
    found = list(dict.fromkeys(sentences(text)))
    ranked = sorted(found, key=lambda sentence: -_weight(sentence, frequency))[:most]
    return [sentence for sentence in found if sentence in ranked]


def _weight(sentence: str, frequency: Counter[str]) -> float:
    counts = [frequency[word] for word in words(sentence) if word in frequency]
    return sum(counts) / (len(counts) + 3)  # without the 3, the shortest sentences would win


def _frequencies(text: str) -> Counter[str]:
    return Counter(word for word in words(text) if word not in COMMON)
