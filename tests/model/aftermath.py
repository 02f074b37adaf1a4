"""What a sudden death may leave: any state that the operation passed through, and mixtures of unflushed bytes."""

from __future__ import annotations

import copy

from cloudfs.types import Kind
from tests.model.reference import Reference, RefFile, RefFolder, RefNode

__all__ = ["Aftermath", "kinds_of"]


def kinds_of(reference: Reference) -> dict[str, Kind]:
    """Return what the names are."""
    return {
        path: Kind.FOLDER if isinstance(node, RefFolder) else Kind.FILE
        for path, node in reference.nodes().items()
    }


class Aftermath:
    """The states of one operation, in their order."""

    def __init__(self, before: Reference) -> None:
        self._states = [copy.deepcopy(before)]

    def note(self, reference: Reference) -> None:
        """The operation may have come as far as this."""
        self._states.append(copy.deepcopy(reference))

    def fitting(self, kinds: dict[str, Kind]) -> Reference:
        """Return the state with these names; AssertionError where there was none."""
        for state in reversed(self._states):
            if kinds_of(state) == kinds:
                return copy.deepcopy(state)
        expected = [kinds_of(state) for state in self._states]
        raise AssertionError(f"after the death there is {kinds}, expected one of {expected}")

    def settle(self, path: str, node: RefNode, found: bytes | None, mode: int) -> None:
        """Make a node what was found; AssertionError where the death cannot have left that."""
        known = [state.nodes()[path] for state in self._states if path in state.nodes()]
        assert mode in {it.mode for it in known}, f"after the death {path} has mode {mode:o}"
        node.mode = mode
        if not isinstance(node, RefFile):
            return
        assert found is not None
        files = [it for it in known if isinstance(it, RefFile)]
        contents = [content for it in files for content in (it.content, *it.since_flush)]
        mixture = RefFile(contents[-1], since_flush=contents[:-1])
        assert mixture.may_be(found), f"after the death {path} has {found!r}: not one of {contents}"
        if len(set(contents)) > 1 or len({it.mtime_ns for it in files}) > 1:
            node.mtime_ns = None
        node.content = found
        node.flushed()
