"""Each command that a document or a hint names can be typed like that: it exists, and so do its options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from cloudfs.cli.main import app
from tests.cli.conftest import REPOSITORY

DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").glob("*.md")]
SOURCES = [*(REPOSITORY / "cloudfs").rglob("*.py")]
_QUOTED = re.compile(r"`cloudfs( [^`\n]+)`")
_INDENTED = re.compile(r"^    cloudfs( [^#\n<>]+)", re.MULTILINE)
_FILLED_IN = re.compile(r"\{[^}]*\}")
_DEVICE = " on"
"""Begins the name of an app password."""
_WORD = re.compile(r"[a-z-]+")


def named() -> Iterator[tuple[str, list[str]]]:
    """Yield where each is named, and its words."""
    for path in [*DOCUMENTS, *SOURCES]:
        text = path.read_text()
        found = _QUOTED.findall(text) + (_INDENTED.findall(text) if path in DOCUMENTS else [])
        for words in found:
            if words != _DEVICE:
                yield str(path.relative_to(REPOSITORY)), _FILLED_IN.sub("NAME", words).split()


def mistake(command: Any, words: list[str]) -> str:
    """Return the first word that the command line does not know; "" for none."""
    for word in words:
        members = getattr(command, "commands", {})
        if word in members:
            command = members[word]
        elif word.startswith("-"):
            if word.partition("=")[0] not in options(command):
                return word
        elif members and _WORD.fullmatch(word) and "list" not in members:
            return word
    return ""


def options(command: Any) -> set[str]:
    """Return how its options are written."""
    mine = {"--help", "-h"}
    for parameter in command.params:
        mine.update(
            part for written in parameter.opts + parameter.secondary_opts for part in written.split("/")
        )
    return mine


def test_what_is_named_exists() -> None:
    found, line = list(named()), typer.main.get_command(app)
    assert len(found) > 150
    assert [(place, " ".join(words)) for place, words in found if mistake(line, words)] == []


def test_a_mistake_is_seen() -> None:
    line = typer.main.get_command(app)
    for words, word in (
        ("frob", "frob"),
        ("logout --frob", "--frob"),
        ("cache frob", "frob"),
        ("logout --revoke", ""),
    ):
        assert mistake(line, words.split()) == word
