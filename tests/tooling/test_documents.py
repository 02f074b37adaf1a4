"""Documents name tests as proof: each has to be there, and to be one that pytest runs."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = ("SECURITY.md", "SEMANTICS.md", "CONCURRENCY.md")
_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::([\w:]+))?`")


@cache
def names_in(file: str) -> frozenset[str]:
    """Return the names of a file's tests, and of its classes with their tests (`Class::test`)."""
    found: set[str] = set()
    for node in ast.parse((REPOSITORY / file).read_text()).body:
        found |= named(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{name}" for inner in node.body for name in named(inner)} | {node.name}
    return frozenset(found)


def named(node: ast.stmt) -> set[str]:
    is_test = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")
    return {node.name} if is_test else set()  # type: ignore[attr-defined]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_it_names_exists(document: str) -> None:
    proofs = _NAMED.findall((REPOSITORY / "docs" / document).read_text())
    assert proofs
    missing = [
        f"{file}::{name}"
        for file, name in proofs
        if not (REPOSITORY / file).is_file() or (name and name not in names_in(file))
    ]
    assert missing == []


def test_every_promise_about_security_has_a_test() -> None:
    rows = re.findall(
        r"^\| (.+) \| (.+) \|$", (REPOSITORY / "docs/SECURITY.md").read_text(), flags=re.MULTILINE
    )
    promises = [
        row for row in rows if row[1] not in {"test", "what they must not get"} and " | " not in row[0]
    ]
    assert len(promises) > 30
    assert [promise for promise, proof in promises if not _NAMED.search(proof)] == []
