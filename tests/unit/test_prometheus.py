"""The text that Prometheus reads, read back by its own library."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloudfs.prometheus import Histogram, counter, gauge, histogram, text


def read(shown: str) -> dict[str, tuple[str, list[tuple[str, dict[str, str], float]]]]:
    return {
        family.name: (family.type, [(it.name, it.labels, it.value) for it in family.samples])
        for family in text_string_to_metric_families(shown)
    }


def test_its_library_reads_what_was_meant() -> None:
    took = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 20.0):
        took.note(seconds)
    families = [
        gauge("a_bytes", "Some.", ({"side": "here"}, 2.5), ({"side": "there"}, None)),
        gauge("b", "None.", ({}, None)),
        counter("c_total", "A lot.", ({}, 10**15)),
        histogram("d_seconds", "How long.", ({"method": "GET"}, took)),
    ]
    found = read(text(families, {"account": "work"}))
    assert found == {
        "a_bytes": ("gauge", [("a_bytes", {"account": "work", "side": "here"}, 2.5)]),
        "c": ("counter", [("c_total", {"account": "work"}, 1e15)]),
        "d_seconds": (
            "histogram",
            [
                ("d_seconds_bucket", {"account": "work", "method": "GET", "le": "0.1"}, 2),
                ("d_seconds_bucket", {"account": "work", "method": "GET", "le": "1"}, 3),
                ("d_seconds_bucket", {"account": "work", "method": "GET", "le": "+Inf"}, 4),
                ("d_seconds_sum", {"account": "work", "method": "GET"}, pytest.approx(20.65)),
                ("d_seconds_count", {"account": "work", "method": "GET"}, 4),
            ],
        ),
    }


@pytest.mark.parametrize("value", ['say "hi"', "back\\slash", "two\nlines", "ä ☃", "a,b{}=", ""])
def test_labels_of_any_kind(value: str) -> None:
    found = read(text([gauge("a", 'Help with \\ and\nlines and "quotes".', ({"name": value}, 1))], {}))
    assert found == {"a": ("gauge", [("a", {"name": value}, 1)])}


def test_no_labels() -> None:
    assert text([gauge("a", "Help.", ({}, 1))], {}) == "# HELP a Help.\n# TYPE a gauge\na 1\n"
