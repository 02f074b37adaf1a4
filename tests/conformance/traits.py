"""Where servers are known to differ (protocol.md §15.2): the one table the generic cases consult."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class InfiniteDepth(Enum):
    """What ``PROPFIND Depth: infinity`` gives."""

    WHOLE_TREE = auto()
    FORBIDDEN = auto()


class MultiRange(Enum):
    """What a request for two ranges gives."""

    WHOLE_FILE = auto()
    MULTIPART = auto()
    LAST_RANGE = auto()


class FolderEtag(Enum):
    """What the ETag of a folder tells."""

    NONE = auto()
    OWN = auto()
    """Of the folder itself: changes with its members, not with what is deeper."""
    DEEP = auto()
    """Changes with everything below."""


class SetMtime(Enum):
    """What PROPPATCH of ``d:lastmodified`` does."""

    SETS = auto()
    REFUSED = auto()
    IGNORED = auto()
    """200, and nothing has happened."""


class DeadProperty(Enum):
    """What PROPPATCH of a property the server does not know does."""

    KEPT = auto()
    REFUSED = auto()
    LOST = auto()
    """200, and it is not there afterwards."""


@dataclass(frozen=True)
class Traits:
    """One server. The defaults are what most of them do."""

    put_over: int = 204
    put_reply_has_etag: bool = True
    put_preconditions: bool = True
    """Whether If-Match and If-None-Match on PUT are looked at; without: lost updates."""
    put_missing_parent: int = 409
    if_match_needs_a_file: bool = True
    """Whether If-Match on PUT fails when there is no file."""
    x_oc_mtime: bool = False
    x_oc_mtime_is_acknowledged: bool = False
    etag_of_put_with_mtime_is_final: bool = True
    move_missing_parent: int = 409
    move_missing_source: int = 404
    mkcol_existing: int = 405
    listed_etag_is_quoted: bool = True
    fresh_etag_is_weak: bool = False
    """Whether a file's ETag is weak, and another one, within a second or two of its last change."""
    range_zero_zero_is_whole_file: bool = False
    multi_range: MultiRange = MultiRange.MULTIPART
    head_with_range: int = 206
    depth_infinity: InfiniteDepth = InfiniteDepth.WHOLE_TREE
    folder_etag: FolderEtag = FolderEtag.NONE
    quota_properties: bool = False
    lastmodified: SetMtime = SetMtime.REFUSED
    dead_property: DeadProperty = DeadProperty.REFUSED
    same_second_etag_collides: bool = False
    cut_overwrite_truncates: bool = False


NEXTCLOUD = Traits(
    put_missing_parent=404,
    x_oc_mtime=True,
    x_oc_mtime_is_acknowledged=True,
    range_zero_zero_is_whole_file=True,
    multi_range=MultiRange.WHOLE_FILE,
    head_with_range=500,
    folder_etag=FolderEtag.DEEP,
    quota_properties=True,
    lastmodified=SetMtime.SETS,
    dead_property=DeadProperty.KEPT,
    same_second_etag_collides=True,
)
"""29.0.1 on local storage, behind a front end that buffers bodies."""

WSGIDAV = Traits(
    if_match_needs_a_file=False,
    listed_etag_is_quoted=False,
    multi_range=MultiRange.LAST_RANGE,
    quota_properties=True,
    same_second_etag_collides=True,
    cut_overwrite_truncates=True,
)
"""4.4."""

RCLONE = Traits(
    put_over=201,
    put_preconditions=False,
    x_oc_mtime=True,
    etag_of_put_with_mtime_is_final=False,
    move_missing_parent=403,
    move_missing_source=403,
    mkcol_existing=201,
    lastmodified=SetMtime.IGNORED,
    dead_property=DeadProperty.LOST,
    cut_overwrite_truncates=True,
)
"""1.75. 1.60 needs an Overwrite header to replace, ignores X-OC-Mtime, and refuses PROPPATCH (protocol.md §15.2)."""

APACHE = Traits(
    put_reply_has_etag=False,
    move_missing_parent=500,
    fresh_etag_is_weak=True,
    depth_infinity=InfiniteDepth.FORBIDDEN,
    folder_etag=FolderEtag.OWN,
    lastmodified=SetMtime.IGNORED,
    dead_property=DeadProperty.KEPT,
)
"""2.4 with mod_dav_fs."""
