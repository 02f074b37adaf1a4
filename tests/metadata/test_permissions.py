"""What letters allow, and which letters of a share's root are believed."""

from __future__ import annotations

import pytest

from cloudfs.metadata.permissions import allows, letters_of_share_root


@pytest.mark.parametrize(
    ("told", "letters", "allowed"),
    [
        ("RGDNVW", "W", True),
        ("SG", "W", False),
        ("SG", "CK", False),
        ("SGK", "CK", True),
        ("", "D", False),
        (None, "D", True),
    ],
)
def test_letters(told: str | None, letters: str, allowed: bool) -> None:  # a table's column
    assert allows(told, letters) is allowed


@pytest.mark.parametrize(
    ("as_member", "itself", "kept"),
    [
        ("SGDNV", "SGD", "SGDNV"),
        ("SGDNV", "SG", "SGDNV"),
        ("SRGDNVCK", "SGD", "SGDNV"),
        ("SGDNV", "SRGDNVCK", "SRGDNVCK"),
        (None, "SGD", "SGD"),
        ("SGDNV", None, None),
    ],
)
def test_the_root_of_a_share_keeps_the_letters_of_its_name(
    as_member: str | None, itself: str | None, kept: str | None
) -> None:
    """Measured: SGDNV in its parent's listing, SGD in its own, SG in a search (protocol.md §2.2)."""
    assert letters_of_share_root(as_member, itself) == kept
