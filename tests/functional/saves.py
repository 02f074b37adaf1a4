"""How programs save a file, call by call, as traced with strace. `doc.txt` is the file.

Calls: ("write", path) creates or cuts, writes the new content and closes; ("copy", source, target);
("rename", old, new); ("unlink", path); ("in place",) cuts and writes the file itself; ("create", path) makes an empty
file.
"""

from __future__ import annotations

from tests.functional.drivers import Driver, read, write

__all__ = ["SAVES", "save"]

Call = tuple[str, ...]

SAVES: dict[str, tuple[Call, ...]] = {
    "vim": (
        ("create", ".doc.txt.swp"),
        ("create", "4913"),
        ("unlink", "4913"),
        ("rename", "doc.txt", "doc.txt~"),
        ("write", "doc.txt"),
        ("unlink", "doc.txt~"),
        ("unlink", ".doc.txt.swp"),
    ),
    "vim, backup kept": (("rename", "doc.txt", "doc.txt~"), ("write", "doc.txt")),
    "vim, backupcopy": (("copy", "doc.txt", "doc.txt~"), ("in place",), ("unlink", "doc.txt~")),
    "vim, backupcopy, backup kept": (("copy", "doc.txt", "doc.txt~"), ("in place",)),
    "emacs": (
        ("create", ".#doc.txt"),
        ("rename", "doc.txt", "doc.txt~"),
        ("write", "doc.txt"),
        ("unlink", ".#doc.txt"),
    ),
    "GLib (gedit)": (("write", ".goutputstream-A1B2C3"), ("rename", ".goutputstream-A1B2C3", "doc.txt")),
    "GLib (gedit), with a backup": (
        ("write", ".goutputstream-A1B2C3"),
        ("rename", "doc.txt", "doc.txt~"),
        ("rename", ".goutputstream-A1B2C3", "doc.txt"),
    ),
    "KDE (QSaveFile)": (("write", "doc.txt.XkPqRs"), ("rename", "doc.txt.XkPqRs", "doc.txt")),
    "LibreOffice": (
        ("create", ".~lock.doc.txt#"),
        ("write", "lu10042a7b.tmp"),
        ("rename", "lu10042a7b.tmp", "doc.txt"),
        ("unlink", ".~lock.doc.txt#"),
    ),
    "LibreOffice, by way of a backup": (
        ("create", ".~lock.doc.txt#"),
        ("rename", "doc.txt", "lu10042a7c.tmp"),
        ("write", "lu10042a7b.tmp"),
        ("rename", "lu10042a7b.tmp", "doc.txt"),
        ("unlink", "lu10042a7c.tmp"),
        ("unlink", ".~lock.doc.txt#"),
    ),
    "sed -i": (("write", "sedAbCdEf"), ("rename", "sedAbCdEf", "doc.txt")),
    "removed and written anew": (("unlink", "doc.txt"), ("write", "doc.txt")),
    "in place": (("in place",),),
}


def save(driver: Driver, name: str, how: str, content: bytes) -> None:
    """Save a document as one of the programs does."""
    for verb, *paths in SAVES[how]:
        match verb, [path.replace("doc.txt", name) for path in paths]:
            case "write", [path]:
                write(driver, path, content)
            case "in place", []:
                write(driver, name, content)
            case "create", [path]:
                write(driver, path, b"")
            case "copy", [source, target]:
                write(driver, target, read(driver, source))
            case "rename", [old, new]:
                driver.rename(old, new)
            case "unlink", [path]:
                driver.unlink(path)
            case call:
                raise AssertionError(call)
