"""What became of each content that was acknowledged, and of each that was seen. Pure but for reading the contents.

An acknowledged content may be found at the end wherever anybody sees it. It may also have been given up: by who read it
and then acknowledged another one, or tried to, over it; by who read it and began to write another one over it, was cut
off before it heard of that, and it was written all the same, as is seen later; or by who read it and then removed it.
Anything else is a loss.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.soak.notes import EMPTY, TAIL

__all__ = ["Verdict", "judge"]

View = dict[str, str | None]
Note = dict[str, Any]


class Reader(Protocol):
    """Contents by their SHA-1."""

    def read(self, digest: str) -> bytes: ...
    def keep(self, data: bytes) -> str: ...


@dataclass
class Verdict:
    """What a run shows. `faults`: what must not be; `counts`: what became of what was acknowledged, and the rest."""

    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def judge(notes: list[Note], contents: Reader, views: dict[str, View]) -> Verdict:
    """Look at all that was noted in a run, and at what each client sees after it, with the names that stay local."""
    verdict = Verdict()
    origins = _Origins(notes, contents)
    final = _final(views, verdict)
    _judge_seen(notes, origins, final, verdict)
    _judge_kept(notes, origins, final, verdict)
    _judge_tails(notes, origins, final, verdict)
    for note in notes:
        if note["kind"] in {"slow", "hangs", "wrong"}:
            verdict.faults.append(f"{note['kind']}: {note}")
    return verdict


class _Origins:
    """Which contents that somebody made are below the tails of a content."""

    def __init__(self, notes: list[Note], contents: Reader) -> None:
        self._contents = contents
        self.made = {note["digest"] for note in notes if note["kind"] == "made"} | {EMPTY}
        self._known: dict[str, set[str]] = {}
        self.tails: dict[str, set[str]] = {}
        """Contents by the tails at their end."""
        kept = {note["digest"] for note in notes if note["kind"] == "kept"}
        self._pending = self.made - kept - {EMPTY}

    def read(self, digest: str) -> bytes:
        return self._contents.read(digest)

    def of(self, digest: str) -> set[str]:
        """Return the contents that a content proves, itself among them; nothing where nobody made it."""
        if digest not in self._known:
            self._known[digest] = self._find(digest)
        return self._known[digest]

    def _find(self, digest: str) -> set[str]:
        found = {digest} if digest in self.made else set()
        data = self._contents.read(digest)
        if tail := TAIL.search(data):
            self.tails.setdefault(tail[0].decode(), set()).add(digest)
            below = self.of(self._contents.keep(data[: tail.start()]))
            found |= {digest, *below} if below else set()
        return found or self._begun(data)

    def _begun(self, data: bytes) -> set[str]:
        """What was being written when its program was told of an error may be there in part."""
        for digest in self._pending:
            whole = self._contents.read(digest)
            if len(whole) > len(data) and whole.startswith(data):
                return {digest}
        return set()


def _final(views: dict[str, View], verdict: Verdict) -> set[str]:
    final = set()
    for who, view in views.items():
        for path, digest in view.items():
            if digest is not None and " " in digest:
                verdict.faults.append(f"{who} at the end: {path}: {digest}")
            elif digest is not None:
                final.add(digest)
    return final


def _judge_seen(notes: list[Note], origins: _Origins, final: set[str], verdict: Verdict) -> None:
    seen = {note["digest"]: f"{note['who']} in {note['path']}" for note in notes if note["kind"] == "seen"}
    for digest in {**dict.fromkeys(final, "at the end"), **seen}:
        verdict.counts["contents seen"] += 1
        if not origins.of(digest):
            verdict.faults.append(f"nobody wrote what was read: {digest}, {seen.get(digest, 'at the end')}")


def _judge_kept(notes: list[Note], origins: _Origins, final: set[str], verdict: Verdict) -> None:
    gone = {note["digest"] for note in notes if note["kind"] == "gone"}
    seen = {note["digest"] for note in notes if note["kind"] == "seen"}
    extended = set().union(*(origins.of(digest) - {digest} for digest in final | seen))
    replaced = _replaced(notes, final | seen | extended)
    last_unseen = {note["path"]: note["at"] for note in notes if note["kind"] == "unseen"}
    for note in notes:
        if note["kind"] != "kept":
            continue
        digest = note["digest"]
        fates = {
            "at the end": digest in final or digest == EMPTY,
            "replaced": digest in replaced,
            "removed": digest in gone,
            "added to": digest in extended,
            # Taken over and removed within the same moment, and not to be had any more.
            "removed unseen": last_unseen.get(note["path"], 0.0) > note["at"],
        }
        fate = next((fate for fate, holds in fates.items() if holds), "LOST")
        verdict.counts[f"acknowledged, {fate}"] += 1
        if fate == "LOST":
            verdict.faults.append(f"lost: {note}")


def _replaced(notes: list[Note], shown: set[str]) -> set[str | None]:
    """Return what was written over by who had read it: in one go, or by and by in an open file.

    `shown`: what was seen, also below what was added to it.
    """
    unheard = _first_made(notes) & shown - {note["digest"] for note in notes if note["kind"] == "refused"}
    parents: dict[str, set[str]] = {}
    replaced: set[str | None] = set()
    for note in notes:
        ends = note["kind"] in {"kept", "failed", "gone"}
        if note["kind"] == "made":
            parents.setdefault(note["digest"], set()).update({note["parent"]} - {None})
            ends = note["digest"] in unheard
        if ends:
            unheard.discard(note["digest"])
            replaced.add(note.get("parent"))
            # What was written in an open file until then went together with it, too.
            left = [note["digest"]]
            while left:
                above = parents.pop(left.pop(), set())
                replaced |= above
                left += above
    return replaced


def _first_made(notes: list[Note]) -> set[str]:
    """Return what had never been there when somebody began to write it.

    Where it is there later, it was written, though nobody may have been told: a handle that edits what another one
    wrote into its file notes the end of what it had itself. What was there before may be there again without that.
    """
    known = {EMPTY}
    made = set()
    for note in notes:
        if note["kind"] == "made" and note["digest"] not in known:
            made.add(note["digest"])
        if note["kind"] in {"made", "seen"}:
            known.add(note["digest"])
    return made


def _judge_tails(notes: list[Note], origins: _Origins, final: set[str], verdict: Verdict) -> None:
    tails = {note["tail"]: note for note in notes if note["kind"] == "tail kept"}
    blocked = {note["tail"] for note in notes if note["kind"] == "held back"}
    held = set(blocked)
    for digest in {*final, *origins.made, *(note["digest"] for note in notes if note["kind"] == "seen")}:
        if digest == EMPTY:
            continue
        data = origins.read(digest)
        held |= {tail for tail in tails.keys() - held if tail.encode() in data}
    verdict.counts["tails acknowledged"] = len(tails)
    verdict.counts["tails on a version that is gone"] = len(blocked)
    verdict.faults += [f"lost: {note}" for tail, note in tails.items() if tail not in held]
