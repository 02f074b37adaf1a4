"""Programs that save by "write new, rename over", and take so long that the new file went up by itself before. Pure.

A MOVE would give the name another file id, and with it no versions, shares, tags and comments. So what was such a file
is sent once more, onto the old one, and removed under its own name. What merely took the place of another, as with
`mv report-2 report`, or where logs are rotated, has a history of its own, and is moved.
"""

from __future__ import annotations

import re

from cloudfs.store.records import Node

__all__ = ["was_temporary"]

_MOST_BYTES = 16 * 1024 * 1024
"""What is larger is moved: it is not sent twice."""
_TEMPORARY = re.compile(r"\.?(tmp|temp|sed)[\w-]{4,}|.*\.(tmp|temp|new)", re.IGNORECASE)
"""As mkstemp, `sed -i` and most programs call them."""


def was_temporary(taker: Node, node: Node) -> bool:
    """Tell whether a file that the server has elsewhere was only written there to be renamed over `node`.

    By where it was and what it was called: beside it, and after it (`.report.txt.Xy12Ab`), or as temporary files are.
    """
    name = taker.s_name or ""
    beside = taker.s_parent == node.s_parent and name != node.s_name
    called = name.removeprefix(".").startswith(f"{node.s_name}.") or _TEMPORARY.fullmatch(name) is not None
    return beside and called and taker.size <= _MOST_BYTES
