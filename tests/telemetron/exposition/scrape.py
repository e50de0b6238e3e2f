"""What a scrape of made entities shows, read by Prometheus' own parsers."""

import asyncio
import gzip
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from telemetron.exposition.exposition import Asked, Exposition
from tests.telemetron.answers.brief.made import SECTIONS, snapshot

Found = dict[tuple[Any, ...], float]


class Scraper:
    """An exposition whose store shows what the test makes."""

    def __init__(self, max_series: int = 200_000) -> None:
        self.store: Any = SimpleNamespace(snapshot=snapshot())
        self.exposition = Exposition(self.store, max_series)

    def show(self, **entities: Any) -> None:
        self.store.snapshot = snapshot(**entities)

    def text(self, *sections: str, is_open: bool = False, is_gzip: bool = False) -> str:
        chunks = asyncio.run(
            self.exposition.page(Asked(sections or SECTIONS, is_open, is_gzip)),
        )
        body = b"".join(chunks)
        return (gzip.decompress(body) if is_gzip else body).decode()

    def found(self, *sections: str) -> Found:
        return parsed(self.text(*sections))


def samples(text: str, is_open: bool = False) -> Iterator[Any]:
    families = (open_metrics if is_open else prometheus)(text)
    return (sample for family in families for sample in family.samples)


def parsed(text: str, is_open: bool = False) -> Found:
    """Values by the name and the labels of the sample."""
    rows = list(samples(text, is_open))
    found = {(one.name, *sorted(one.labels.items())): one.value for one in rows}
    assert len(found) == len(rows)  # no series twice
    return found


def scraped(**entities: Any) -> Found:
    scraper = Scraper()
    scraper.show(**entities)
    return scraper.found()


def of(found: Found, name: str, **labels: str) -> dict[Any, float]:
    """Values of one metric by its other labels; without others by ()."""
    wanted = labels.items()
    picked = {key[1:]: value for key, value in found.items() if key[0] == f"telemetron_{name}"}
    rest = {
        tuple(value for label, value in key if label not in labels): value
        for key, value in picked.items()
        if set(wanted) <= set(key)
    }
    return {key[0] if len(key) == 1 else key: value for key, value in rest.items()}
