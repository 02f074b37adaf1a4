"""Builds the .deb and prints its path."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from scripts._deb import archive, environment, layout

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Build it; the exit code is that of the first program that fails."""
    parser = argparse.ArgumentParser(prog="scripts/build-deb")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "dist", help="where to write it")
    folder: Path = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="cloudfs-deb-") as scratch:
        work, tree = Path(scratch), Path(scratch, "tree")
        tools = environment.Tools.make(ROOT, work)
        home = environment.fill(tools, tree, tools.wheels())
        layout.arrange(ROOT, tree, home, tools)
        print(archive.pack(ROOT, tree, home, folder, work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
