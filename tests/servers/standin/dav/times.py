"""Times clients may set, and the ones the server chokes on (protocol.md §6, §9)."""

from __future__ import annotations

import re

from tests.servers.standin.errors import DavError
from tests.servers.standin.tree import Node, Tree

_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
SMALLEST = 86_401
"""Anything up to one day after the epoch is an error."""


def whole_seconds(value: str) -> int:
    """A time from a header or property, its fraction dropped; 500 where the server fails to."""
    if not _NUMBER.fullmatch(value):
        raise _invalid("X-OC-MTime header must be an integer (unix timestamp).")
    seconds = int(float(value))
    if seconds < SMALLEST:
        raise _invalid("X-OC-MTime header must be a valid positive integer")
    return seconds


def set_mtime_value(tree: Tree, node: Node, value: str) -> None:
    """``d:lastmodified``."""
    tree.touch(node, whole_seconds(value))


def _invalid(message: str) -> DavError:
    return DavError(500, message, exception="InvalidArgumentException")
