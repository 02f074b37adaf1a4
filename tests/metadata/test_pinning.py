"""Which pin holds for a node: a table, and random trees in which every way to find it out agrees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfs.metadata.pinning import Defaults, Stand, standing
from cloudfs.store.records import Link
from cloudfs.types import ROOT, Ino, Pin

KEEP, ONLINE = Pin.ALWAYS_LOCAL, Pin.ONLINE_ONLY
DOCUMENTS = Defaults(("/Documents",), 500)


def chain(*above: tuple[str, Pin | None]) -> list[Link]:
    """Return the links of the last node named; the first is a member of the root."""
    links = [Link(ROOT, "", None)]
    links += [Link(Ino(number), name, pin) for number, (name, pin) in enumerate(above, 2)]
    return links[::-1]


@pytest.mark.parametrize(
    ("above", "size", "kept"),
    [
        ([("a", None)], 1, False),
        ([("a", KEEP)], 1, True),
        ([("a", KEEP), ("b", None), ("c", None)], 10**12, True),
        ([("a", KEEP), ("b", ONLINE), ("c", None)], 1, False),
        ([("a", KEEP), ("b", ONLINE), ("c", KEEP)], 1, True),
        ([("a", ONLINE), ("b", KEEP), ("c", None)], 1, True),
        ([("Documents", None)], 500, True),
        ([("Documents", None), ("b", None)], 500, True),
        ([("Documents", None), ("b", None)], 501, False),
        ([("Documents2", None)], 1, False),
        ([("x", None), ("Documents", None)], 1, False),
        ([("Documents", None), ("b", KEEP)], 501, True),
        ([("Documents", ONLINE), ("b", None)], 1, False),
        ([("Documents", None), ("b", ONLINE), ("c", None)], 1, False),
    ],
    ids=str,
)
def test_the_nearest_word_holds_and_else_the_defaults(
    above: list[tuple[str, Pin | None]], size: int, kept: bool
) -> None:
    stand = standing(chain(*above))
    assert stand is not None
    assert stand.keeps(DOCUMENTS, size) is kept


def test_what_was_said_about_the_root_goes_before_the_defaults() -> None:
    links = [Link(Ino(3), "a", None), Link(Ino(2), "Documents", None), Link(ROOT, "", ONLINE)]
    stand = standing(links)
    assert stand == Stand("/Documents/a", ONLINE, ROOT)
    assert not stand.keeps(DOCUMENTS, 1)


def test_the_root_as_default_means_everything() -> None:
    stand = standing(chain(("a", None), ("b", None)))
    assert stand is not None
    assert stand.keeps(Defaults(("/",)), 10**15)


def test_what_the_mount_does_not_show_is_not_kept() -> None:
    assert standing([Link(Ino(5), "gone", KEEP)]) is None
    assert standing([]) is None


words = st.sampled_from([None, KEEP, ONLINE])
names = st.sampled_from(["a", "Documents", "b"])
paths = st.lists(st.tuples(names, words), max_size=6)
defaults = st.builds(
    Defaults,
    st.lists(st.lists(names, max_size=3).map(lambda it: "/" + "/".join(it)), max_size=3).map(tuple),
    st.none() | st.integers(0, 10),
)


@given(paths, words)
def test_from_above_and_from_below_the_same_is_found(
    above: list[tuple[str, Pin | None]], root: Pin | None
) -> None:
    links = [*chain(*above)[:-1], Link(ROOT, "", root)]
    stand = Stand("/", root, None if root is None else ROOT)
    for link in reversed(links[:-1]):
        stand = stand.below(link.ino, link.name, link.pin)
    assert standing(links) == stand


@given(paths, defaults, st.integers(0, 12))
def test_one_word_more_far_above_never_changes_what_a_nearer_one_says(
    above: list[tuple[str, Pin | None]], policy: Defaults, size: int
) -> None:
    before = standing(chain(*above))
    assert before is not None
    for word in (KEEP, ONLINE):
        links = [*chain(*above)[:-1], Link(ROOT, "", word)]
        after = standing(links)
        assert after is not None
        if any(pin is not None for _, pin in above):
            assert after.keeps(policy, size) is before.keeps(policy, size)
        else:
            assert after.keeps(policy, size) is (word is KEEP)


@given(paths, defaults, st.integers(0, 12))
def test_a_larger_file_is_never_kept_where_a_smaller_one_is_not(
    above: list[tuple[str, Pin | None]], policy: Defaults, size: int
) -> None:
    stand = standing(chain(*above))
    assert stand is not None
    assert stand.keeps(policy, size) >= stand.keeps(policy, size + 1)
