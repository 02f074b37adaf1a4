"""Every pair of changes of one thing, here and on the server: the changes, and what has to come of them.

A change is a list of operations in words, so that it can be done through any driver. `{me}` is who makes it: "ours" or
"theirs", in names and contents.
"""

from __future__ import annotations

__all__ = [
    "BASE",
    "CASES",
    "OTHERS",
    "Case",
    "Change",
    "Operation",
    "Outcome",
    "Pair",
    "changes",
    "contents",
    "in_words",
    "same_file",
    "same_inode",
    "wanted",
]

Operation = tuple[str, ...]
Change = tuple[Operation, ...]
Case = tuple[str, str, str]

BASE: dict[str, bytes | None] = {
    "doc": b"base",
    "box": None,
    "folder": None,
    "folder/inside": b"inside",
    "folder/other": b"other",
}

FILE: dict[str, Change] = {
    "edit": (("write", "doc", "{me}"),),
    "rename": (("rename", "doc", "{me}.txt"),),
    "move": (("rename", "doc", "box/{me}.txt"),),
    "delete": (("unlink", "doc"),),
    "type": (("unlink", "doc"), ("mkdir", "doc"), ("write", "doc/in", "{me}")),
}

FOLDER: dict[str, Change] = {
    "edit": (("write", "folder/inside", "{me}"),),
    "create": (("write", "folder/new", "{me}"),),
    "rename": (("rename", "folder", "{me}"),),
    "move": (("rename", "folder", "box/{me}"),),
    "delete": (("unlink", "folder/inside"), ("unlink", "folder/other"), ("rmdir", "folder")),
    "type": (
        ("unlink", "folder/inside"),
        ("unlink", "folder/other"),
        ("rmdir", "folder"),
        ("write", "folder", "{me}"),
    ),
}

CREATED: dict[str, Change] = {
    "file": (("write", "new", "{me}"),),
    "folder": (("mkdir", "new"), ("write", "new/{me}", "{me}")),
    "same file": (("write", "new", "the same"),),
}


Outcome = tuple[dict[str, str | None], tuple[str, ...]]
"""What is there that was not, and what is there no more; "(copy)" stands for a conflicted copy's date."""

_OUTCOMES: dict[Case, Outcome] = {
    ("file", "edit", "edit"): ({"doc": "theirs", "doc (copy)": "ours"}, ()),
    ("file", "edit", "rename"): ({"theirs.txt": "ours"}, ("doc",)),
    ("file", "edit", "move"): ({"box/theirs.txt": "ours"}, ("doc",)),
    ("file", "edit", "delete"): ({"doc": "ours"}, ()),
    ("file", "edit", "type"): ({"doc": None, "doc/in": "theirs", "doc (copy)": "ours"}, ()),
    ("file", "rename", "edit"): ({"ours.txt": "theirs"}, ("doc",)),
    ("file", "rename", "rename"): ({"theirs.txt": "base"}, ("doc",)),
    ("file", "rename", "move"): ({"box/theirs.txt": "base"}, ("doc",)),
    ("file", "rename", "delete"): ({}, ("doc",)),
    ("file", "rename", "type"): ({"doc": None, "doc/in": "theirs"}, ()),
    ("file", "move", "edit"): ({"box/ours.txt": "theirs"}, ("doc",)),
    ("file", "move", "rename"): ({"theirs.txt": "base"}, ("doc",)),
    ("file", "move", "move"): ({"box/theirs.txt": "base"}, ("doc",)),
    ("file", "move", "delete"): ({}, ("doc",)),
    ("file", "move", "type"): ({"doc": None, "doc/in": "theirs"}, ()),
    ("file", "delete", "edit"): ({"doc": "theirs"}, ()),
    ("file", "delete", "rename"): ({"theirs.txt": "base"}, ("doc",)),
    ("file", "delete", "move"): ({"box/theirs.txt": "base"}, ("doc",)),
    ("file", "delete", "delete"): ({}, ("doc",)),
    ("file", "delete", "type"): ({"doc": None, "doc/in": "theirs"}, ()),
    ("file", "type", "edit"): ({"doc": "theirs", "doc (copy)": None, "doc (copy)/in": "ours"}, ()),
    ("file", "type", "rename"): ({"doc": None, "doc/in": "ours", "theirs.txt": "base"}, ()),
    ("file", "type", "move"): ({"box/theirs.txt": "base", "doc": None, "doc/in": "ours"}, ()),
    ("file", "type", "delete"): ({"doc": None, "doc/in": "ours"}, ()),
    ("file", "type", "type"): ({"doc": None, "doc/in": "theirs", "doc/in (copy)": "ours"}, ()),
    ("folder", "edit", "edit"): ({"folder/inside": "theirs", "folder/inside (copy)": "ours"}, ()),
    ("folder", "edit", "create"): ({"folder/inside": "ours", "folder/new": "theirs"}, ()),
    ("folder", "edit", "rename"): (
        {"theirs": None, "theirs/inside": "ours", "theirs/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "edit", "move"): (
        {"box/theirs": None, "box/theirs/inside": "ours", "box/theirs/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "edit", "delete"): ({"folder/inside": "ours"}, ("folder/other",)),
    ("folder", "edit", "type"): (
        {"folder": "theirs", "folder (copy)": None, "folder (copy)/inside": "ours"},
        ("folder/inside", "folder/other"),
    ),
    ("folder", "create", "edit"): ({"folder/inside": "theirs", "folder/new": "ours"}, ()),
    ("folder", "create", "create"): ({"folder/new": "theirs", "folder/new (copy)": "ours"}, ()),
    ("folder", "create", "rename"): (
        {"theirs": None, "theirs/inside": "inside", "theirs/new": "ours", "theirs/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "create", "move"): (
        {
            "box/theirs": None,
            "box/theirs/inside": "inside",
            "box/theirs/new": "ours",
            "box/theirs/other": "other",
        },
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "create", "delete"): ({"folder/new": "ours"}, ("folder/inside", "folder/other")),
    ("folder", "create", "type"): (
        {"folder": "theirs", "folder (copy)": None, "folder (copy)/new": "ours"},
        ("folder/inside", "folder/other"),
    ),
    ("folder", "rename", "edit"): (
        {"ours": None, "ours/inside": "theirs", "ours/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "rename", "create"): (
        {"ours": None, "ours/inside": "inside", "ours/new": "theirs", "ours/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "rename", "rename"): (
        {"theirs": None, "theirs/inside": "inside", "theirs/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "rename", "move"): (
        {"box/theirs": None, "box/theirs/inside": "inside", "box/theirs/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "rename", "delete"): ({}, ("folder", "folder/inside", "folder/other")),
    ("folder", "rename", "type"): ({"folder": "theirs"}, ("folder/inside", "folder/other")),
    ("folder", "move", "edit"): (
        {"box/ours": None, "box/ours/inside": "theirs", "box/ours/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "move", "create"): (
        {"box/ours": None, "box/ours/inside": "inside", "box/ours/new": "theirs", "box/ours/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "move", "rename"): (
        {"theirs": None, "theirs/inside": "inside", "theirs/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "move", "move"): (
        {"box/theirs": None, "box/theirs/inside": "inside", "box/theirs/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "move", "delete"): ({}, ("folder", "folder/inside", "folder/other")),
    ("folder", "move", "type"): ({"folder": "theirs"}, ("folder/inside", "folder/other")),
    ("folder", "delete", "edit"): ({"folder/inside": "theirs"}, ("folder/other",)),
    ("folder", "delete", "create"): ({"folder/new": "theirs"}, ("folder/inside", "folder/other")),
    ("folder", "delete", "rename"): (
        {"theirs": None, "theirs/inside": "inside", "theirs/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "delete", "move"): (
        {"box/theirs": None, "box/theirs/inside": "inside", "box/theirs/other": "other"},
        ("folder", "folder/inside", "folder/other"),
    ),
    ("folder", "delete", "delete"): ({}, ("folder", "folder/inside", "folder/other")),
    ("folder", "delete", "type"): ({"folder": "theirs"}, ("folder/inside", "folder/other")),
    ("folder", "type", "edit"): ({"folder/inside": "theirs", "folder (copy)": "ours"}, ("folder/other",)),
    ("folder", "type", "create"): (
        {"folder/new": "theirs", "folder (copy)": "ours"},
        ("folder/inside", "folder/other"),
    ),
    ("folder", "type", "rename"): (
        {"folder": "ours", "theirs": None, "theirs/inside": "inside", "theirs/other": "other"},
        ("folder/inside", "folder/other"),
    ),
    ("folder", "type", "move"): (
        {"box/theirs": None, "box/theirs/inside": "inside", "box/theirs/other": "other", "folder": "ours"},
        ("folder/inside", "folder/other"),
    ),
    ("folder", "type", "delete"): ({"folder": "ours"}, ("folder/inside", "folder/other")),
    ("folder", "type", "type"): (
        {"folder": "theirs", "folder (copy)": "ours"},
        ("folder/inside", "folder/other"),
    ),
    ("created", "file", "file"): ({"new": "theirs", "new (copy)": "ours"}, ()),
    ("created", "file", "folder"): ({"new": None, "new/theirs": "theirs", "new (copy)": "ours"}, ()),
    ("created", "file", "same file"): ({"new": "the same", "new (copy)": "ours"}, ()),
    ("created", "folder", "file"): ({"new": "theirs", "new (copy)": None, "new (copy)/ours": "ours"}, ()),
    ("created", "folder", "folder"): ({"new": None, "new/ours": "ours", "new/theirs": "theirs"}, ()),
    ("created", "folder", "same file"): (
        {"new": "the same", "new (copy)": None, "new (copy)/ours": "ours"},
        (),
    ),
    ("created", "same file", "file"): ({"new": "theirs", "new (copy)": "the same"}, ()),
    ("created", "same file", "folder"): ({"new": None, "new/theirs": "theirs", "new (copy)": "the same"}, ()),
    ("created", "same file", "same file"): ({"new": "the same"}, ()),
}

_WITHOUT_FILE_IDS: dict[Case, Outcome] = {
    # The server's rename of something edited here looks like a removal and something new.
    ("file", "edit", "rename"): ({"doc": "ours", "theirs.txt": "base"}, ()),
    ("file", "edit", "move"): ({"doc": "ours", "box/theirs.txt": "base"}, ()),
    ("folder", "edit", "rename"): (
        {"folder/inside": "ours", "theirs": None, "theirs/inside": "inside", "theirs/other": "other"},
        ("folder/other",),
    ),
    ("folder", "edit", "move"): (
        {
            "box/theirs": None,
            "box/theirs/inside": "inside",
            "box/theirs/other": "other",
            "folder/inside": "ours",
        },
        ("folder/other",),
    ),
    ("folder", "create", "move"): (
        {
            "box/theirs": None,
            "box/theirs/inside": "inside",
            "box/theirs/other": "other",
            "folder/new": "ours",
        },
        ("folder/inside", "folder/other"),
    ),
    ("folder", "create", "rename"): (
        {"folder/new": "ours", "theirs": None, "theirs/inside": "inside", "theirs/other": "other"},
        ("folder/inside", "folder/other"),
    ),
}


Pair = tuple[Change, Change, Outcome]

OTHERS: dict[str, Pair] = {
    "another case of letters, edit": (
        (("rename", "doc", "DOC"),),
        (("write", "doc", "{me}"),),
        ({"DOC": "theirs"}, ("doc",)),
    ),
    "swap, edit of one": (
        (
            ("rename", "folder/inside", "spare"),
            ("rename", "folder/other", "folder/inside"),
            ("rename", "spare", "folder/other"),
        ),
        (("write", "folder/other", "{me}"),),
        ({"folder/inside": "theirs", "folder/other": "inside"}, ()),
    ),
    "cycle of three, edit of one": (
        (
            ("rename", "doc", "spare"),
            ("rename", "folder/inside", "doc"),
            ("rename", "folder/other", "folder/inside"),
            ("rename", "spare", "folder/other"),
        ),
        (("write", "doc", "{me}"),),
        ({"doc": "inside", "folder/inside": "other", "folder/other": "theirs"}, ()),
    ),
    "edit and move out of a folder, delete of the folder": (
        (("write", "folder/inside", "{me}"), ("rename", "folder/inside", "box/kept")),
        (("unlink", "folder/inside"), ("unlink", "folder/other"), ("rmdir", "folder")),
        ({"box/kept": "ours"}, ("folder", "folder/inside", "folder/other")),
    ),
}


def in_words(change: Change, me: str) -> Change:
    """Return a change as somebody makes it."""
    return tuple(tuple(word.format(me=me) for word in operation) for operation in change)


def contents(change: Change, me: str) -> set[bytes]:
    """Return what is written in a change."""
    return {words[2].encode() for words in in_words(change, me) if words[0] == "write"}


CASES = tuple(_OUTCOMES)
"""What it is about, what is done here, what is done on the server."""


def wanted(outcome: Outcome) -> dict[str, bytes | None]:
    """Return the whole tree of an outcome."""
    added, gone = outcome
    kept = {path: data for path, data in BASE.items() if path not in gone}
    return kept | {path: None if text is None else text.encode() for path, text in added.items()}


def same_file(here: Change, there: Change, outcome: Outcome) -> dict[str, str]:
    """Return where what was there before both changes has to be with its file id; what is gone there has no more.

    The server's place for it, where it was moved there; else ours; else, where it appears again, the one it had.
    """
    ours, theirs = _places(in_words(here, "ours")), _places(in_words(there, "theirs"))
    kept = {
        path: theirs[path] if theirs[path] != path else ours[path] or path
        for path in BASE
        if theirs[path] is not None
    }
    return {path: place for path, place in kept.items() if place in wanted(outcome)}


def same_inode(here: Change, there: Change, outcome: Outcome) -> dict[str, str]:
    """Return where what was there before both changes has to be with its inode: as open handles go on there.

    It goes with what was written here, and with its file id otherwise. Nothing is said of what was removed here, nor of
    what has two new names: that is found as something new under the server's.
    """
    change, after = in_words(here, "ours"), wanted(outcome)
    ours, files, kept = _places(change), same_file(here, there, outcome), {}
    renamed = {words[1] for words in change if words[0] == "rename"}
    for path, place in ours.items():
        if place is None or (path in renamed and files.get(path) != place):
            continue
        written = [
            words[1]
            for words in change
            if words[0] == "write" and f"{ours.get(words[1]) or words[1]}/".startswith(f"{place}/")
        ]
        if written:
            (found,) = (one for one, data in after.items() if data == b"ours")
            above = written[0].count("/") - path.count("/")
            kept[path] = found.rsplit("/", above)[0] if above else found
        elif path in files:
            kept[path] = files[path]
    return kept


def _places(change: Change) -> dict[str, str | None]:
    """Return where everything is after a change; None where it was removed."""
    places: dict[str, str | None] = {path: path for path in BASE}
    for call, path, *more in change:
        for one, place in places.items():
            if place is None or not f"{place}/".startswith(f"{path}/"):
                continue
            if call == "rename":
                places[one] = more[0] + place[len(path) :]
            elif call in {"unlink", "rmdir"}:
                places[one] = None
    return places


def changes(case: Case, *, file_ids: bool = True) -> Pair:
    """Return a case's change here, that on the server, and what comes of them."""
    about, here, there = case
    table = {"file": FILE, "folder": FOLDER, "created": CREATED}[about]
    outcome = _OUTCOMES[case] if file_ids else _WITHOUT_FILE_IDS.get(case, _OUTCOMES[case])
    return table[here], table[there], outcome
