"""The judge of a soak finds what it is there to find, and takes nothing else for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.soak.judge import Verdict, View, judge
from tests.soak.notes import Contents, Notes, read_notes

OLD, NEW, OTHER = b"old content", b"new content", b"somebody else's"


class Scene:
    """What three clients noted, and what they see at the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.contents = Contents(root / "contents")
        self.notes = {who: Notes(root, who, "seed") for who in "ABC"}
        self.view: View = {}

    def write(self, who: str, path: str, data: bytes, over: bytes | None = None, end: str = "kept") -> None:
        parent = None if over is None else self.contents.keep(over)
        digest = self.notes[who].made(path, data, parent)
        self.notes[who].note(end, path=path, digest=digest, parent=parent)

    def read(self, who: str, path: str, data: bytes) -> None:
        self.notes[who].seen(path, data)

    def tail(self, who: str, path: str) -> bytes:
        tail = self.notes[who].tail()
        for kind in ("tail", "tail kept"):
            self.notes[who].note(kind, path=path, tail=tail.decode())
        return tail

    def gone(self, who: str, path: str, data: bytes) -> None:
        self.notes[who].note("gone", path=path, digest=self.contents.keep(data))

    def shows(self, **files: bytes) -> None:
        self.view = {name: self.contents.keep(data) for name, data in files.items()}

    def judge(self) -> Verdict:
        return judge(read_notes(self.root), self.contents, dict.fromkeys("ABC", self.view))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    for notes in made.notes.values():
        notes.close()


def faults(scene: Scene) -> list[str]:
    """Return the first words of each fault."""
    return [fault.split(":")[0] for fault in scene.judge().faults]


def test_what_is_there_is_there(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.shows(**{"x (conflicted copy)": OLD})
    verdict = scene.judge()
    assert verdict.faults == []
    assert verdict.counts["acknowledged, at the end"] == 1


def test_what_nobody_has_any_more_is_lost(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.write("B", "x", NEW)
    scene.shows(x=NEW)
    assert faults(scene) == ["lost"]


def test_what_somebody_read_and_replaced_is_not(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.write("C", "x", NEW, over=OLD)
    scene.shows(x=NEW)
    assert faults(scene) == []


def test_what_was_replaced_by_a_refused_write_is_lost(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.write("C", "x", NEW, over=OLD, end="refused")
    scene.shows()
    assert faults(scene) == ["lost"]


def test_what_somebody_read_and_removed_is_not(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.gone("B", "x", OLD)
    assert faults(scene) == []


def test_an_open_file_is_written_on_by_another_and_then_closed(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.write("A", "x", OTHER, over=OLD)  # by another handle
    scene.write("A", "x", NEW + b" at first", over=OTHER, end="nothing")
    scene.write("A", "x", NEW, over=NEW + b" at first", end="nothing")
    digest = scene.contents.keep(NEW)
    scene.notes["A"].note("kept", path="x", digest=digest, parent=scene.contents.keep(OLD))
    scene.shows(x=NEW)
    assert faults(scene) == []


def cut_off(scene: Scene, over: bytes, begun: bytes) -> None:
    """Have a handle that was opened with OLD begin to write over what another one made of it, until a kill."""
    scene.notes["A"].made("x", begun, scene.contents.keep(over))
    opened_with = scene.contents.keep(OLD)
    scene.notes["A"].note("failed", path="x", digest=opened_with, parent=opened_with)


def two_handles(scene: Scene, begun: bytes) -> None:
    scene.write("A", "x", OLD)
    scene.write("A", "x", OTHER, over=OLD)
    cut_off(scene, OTHER, begun)


def test_what_was_written_over_by_what_nobody_heard_of_is_not_lost(scene: Scene) -> None:
    two_handles(scene, NEW)
    scene.shows(x=NEW)
    assert faults(scene) == []


def test_nor_where_a_line_was_added_to_that_since(scene: Scene) -> None:
    two_handles(scene, NEW)
    scene.shows(x=NEW + scene.tail("A", "x"))
    verdict = scene.judge()
    assert verdict.faults == []
    assert verdict.counts["acknowledged, replaced"] == 2


def test_nor_where_somebody_saw_that_once(scene: Scene) -> None:
    two_handles(scene, NEW)
    both = NEW + scene.tail("A", "x")
    scene.read("C", "x", both)
    scene.gone("C", "x", both)
    assert faults(scene) == []


def test_what_was_to_be_written_over_is_lost_where_that_never_was(scene: Scene) -> None:
    two_handles(scene, NEW)
    scene.shows(x=OLD + scene.tail("A", "x"))
    assert faults(scene) == ["lost"]


def test_what_was_beside_what_was_written_over_is_lost(scene: Scene) -> None:
    scene.write("B", "y", b"not that one")
    two_handles(scene, NEW)
    scene.shows(x=NEW + scene.tail("A", "x"))
    assert faults(scene) == ["lost"]


def test_what_was_to_be_cut_back_is_lost_where_only_that_is_there_what_was_before(scene: Scene) -> None:
    """What an earlier version may come back by is no proof of the cut."""
    scene.write("B", "x", NEW)
    scene.write("A", "x", OLD)
    scene.write("A", "x", NEW + b" and more", over=OLD)
    cut_off(scene, NEW + b" and more", NEW)
    scene.shows(x=NEW)
    assert faults(scene) == ["lost"]


def test_what_the_server_refused_to_write_over_is_lost(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.write("C", "x", NEW, over=OLD, end="refused")
    scene.shows(x=NEW)
    assert faults(scene) == ["lost"]


def test_an_open_edit_goes_with_its_file(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.write("A", "x", NEW, over=OLD, end="nothing")
    scene.gone("A", "x", NEW)
    assert faults(scene) == []


def test_what_nobody_wrote_is_noticed_wherever_it_is_seen(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.read("B", "x", OLD[:6] + NEW[6:] + b"!")
    scene.shows(x=OLD, y=OTHER)
    assert faults(scene) == ["nobody wrote what was read"] * 2


def test_a_part_of_what_was_acknowledged_is_not_what_was_written(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.read("B", "x", OLD[:5])
    scene.shows(x=OLD)
    assert faults(scene) == ["nobody wrote what was read"]


def test_a_write_that_failed_may_be_there_in_part(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.write("A", "x", NEW, over=OLD, end="failed")
    scene.shows(x=NEW[:5])
    assert faults(scene) == []


def test_tails_are_looked_for_on_whatever_they_were_added_to(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    both = OLD + scene.tail("B", "x") + scene.tail("A", "x")
    scene.shows(x=both)
    verdict = scene.judge()
    assert verdict.faults == []
    assert verdict.counts["acknowledged, added to"] == 1


def test_a_lost_tail_is_noticed(scene: Scene) -> None:
    scene.write("A", "x", OLD)
    scene.tail("B", "x")
    scene.shows(x=OLD)
    assert faults(scene) == ["lost"]


def test_a_tail_that_could_not_go_up_was_not_lost_where_it_was_still_there(scene: Scene) -> None:
    scene.notes["B"].note("held back", tail=scene.tail("B", "x").decode())
    assert faults(scene) == []


def test_a_tail_on_what_nobody_wrote_is_noticed(scene: Scene) -> None:
    scene.shows(x=OTHER + scene.tail("B", "x"))
    assert faults(scene) == ["nobody wrote what was read"]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("slow", {"call": "read", "took_s": 30.0, "what": ""}),
        ("hangs", {"call": "read", "what": ""}),
        ("wrong", {"path": "x", "digest": "0"}),
    ],
)
def test_what_a_client_complains_about_is_a_fault(scene: Scene, kind: str, more: dict[str, Any]) -> None:
    scene.notes["A"].note(kind, **more)
    assert faults(scene) == [kind]


def test_what_cannot_be_read_at_the_end_is_a_fault(scene: Scene) -> None:
    scene.view = {"x": "cannot be read: Stale file handle"}
    assert faults(scene) == ["A at the end", "B at the end", "C at the end"]
