"""The text format in which Prometheus, and what reads for it, takes figures.

    # HELP cloudfs_pending_files Changed here, and not on the server yet.
    # TYPE cloudfs_pending_files gauge
    cloudfs_pending_files{account="work"} 3

SOURCE: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4. Ours is written at a moment,
from figures that are counted elsewhere: the client library, made for figures of its own, would cost 14 MB of memory and
a quarter of a second at the start (0.26.0, measured), and serve them in threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

__all__ = ["CONTENT_TYPE", "Family", "Histogram", "counter", "gauge", "histogram", "text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


class Histogram:
    """How often something took how long, in seconds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Up to each bound, and beyond the last."""
        self.total = 0.0

    def note(self, value: float) -> None:
        """Count one."""
        index = next((at for at, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))
        self.counts[index] += 1
        self.total += value


class Family(msgspec.Struct, frozen=True):
    """One figure in all its kinds."""

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
    samples: list[tuple[str, Labels, float]]
    """What is put behind the name, labels, and value."""


def gauge(name: str, help_: str, *samples: tuple[Labels, float | None]) -> Family:
    """Make a figure that goes up and down; one that is not known (None) is left out."""
    return Family(
        name, help_, "gauge", [("", labels, value) for labels, value in samples if value is not None]
    )


def counter(name: str, help_: str, *samples: tuple[Labels, float]) -> Family:
    """Make a figure that only ever grows; its name ends with _total."""
    return Family(name, help_, "counter", [("", labels, value) for labels, value in samples])


def histogram(name: str, help_: str, *samples: tuple[Labels, Histogram]) -> Family:
    """Make a distribution."""
    return Family(
        name, help_, "histogram", [it for labels, found in samples for it in _buckets(labels, found)]
    )


def _buckets(labels: Labels, found: Histogram) -> Iterator[tuple[str, Labels, float]]:
    count = 0
    for bound, more in zip((*found.bounds, float("inf")), found.counts, strict=True):
        count += more
        yield "_bucket", {**labels, "le": _number(bound)}, count
    yield "_sum", labels, found.total
    yield "_count", labels, count


def text(families: Iterable[Family], common: Labels) -> str:
    """Return all of them, each with the labels that they have in common."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines += [f"# HELP {family.name} {_escaped(family.help)}", f"# TYPE {family.name} {family.kind}"]
        lines += [
            f"{family.name}{suffix}{_labels({**common, **labels})} {_number(value)}"
            for suffix, labels, value in family.samples
        ]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    quoted = (
        f'{name}="{_escaped(value).replace(chr(34), chr(92) + chr(34))}"' for name, value in labels.items()
    )
    return "{" + ",".join(quoted) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
