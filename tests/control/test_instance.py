"""Who holds an account can be read at any moment while it is held."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloudfs.control.instance import Holder, find_holder, hold


def test_a_note_that_is_replaced_is_never_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at before each call of the system that may change the file."""
    seen: list[Holder | None] = []

    def looked_at(name: str) -> None:
        call = getattr(os, name)

        def look_first(*arguments: object) -> object:
            seen.append(find_holder(tmp_path))
            return call(*arguments)

        monkeypatch.setattr(os, name, look_first)

    long, short = Holder(1, "/a", "/run", "waits", "45"), Holder(1, "/a", "/run")
    with hold(tmp_path, "a") as held:
        held.note(long)
        for name in ("ftruncate", "pwrite"):
            looked_at(name)
        held.note(short)
        assert find_holder(tmp_path) == short
        held.note(long)
        assert find_holder(tmp_path) == long
    assert set(seen) == {long, short}
    assert find_holder(tmp_path) is None
