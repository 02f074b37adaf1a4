"""However many nodes there are, they stay on the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cloudfs.store.store import Store
from cloudfs.types import ROOT

MANY = 50_000
LONG = "a name as people give them to their photographs, with place and date, number "
"""With its row's other columns half a KiB as an object of Python: 25 MiB for all."""
MOST_BYTES = 16 << 20
"""Twice what SQLite may keep of its pages."""

_OPEN = """
import sys
from pathlib import Path
from cloudfs.store.store import Store
from cloudfs.types import ROOT

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before = resident()
store = Store(Path(sys.argv[1]))
assert store.nodes.child(ROOT, sys.argv[2]) is not None
assert store.nodes.count_dirty() == 0
print(resident() - before)
store.close()
"""


def test_many_nodes_take_no_memory(path: Path) -> None:
    store = Store(path)
    with store.transaction():
        for number in range(MANY):
            name = f"{LONG}{number}"
            store.nodes.insert(
                parent=ROOT,
                name=name,
                folder=0,
                mtime_ns=0,
                ctime_ns=0,
                s_parent=ROOT,
                s_name=name,
                s_version=0,
                s_mtime_ns=0,
            )
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, str(path), f"{LONG}{MANY - 1}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < MOST_BYTES
