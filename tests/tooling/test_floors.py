"""The floors in pyproject.toml stop what they are there to stop: tried on small trees that break them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LINT_IMPORTS = str(Path(sys.executable).with_name("lint-imports"))

HONEST = {
    "errors.py": "import errno",
    "types.py": "",
    "paths.py": "from cloudfs.errors import errno\nimport cloudfs.types",
    "ranges.py": "",
    "octets.py": "",
    "remote/dav.py": "import httpx\nimport lxml.etree\nimport cloudfs.paths\nimport trio",
    "store/db.py": "import sqlite3\nimport cloudfs.types",
    "blocks/cache.py": "import diskcache\nimport sqlite3",
    "content/read.py": "import cloudfs.blocks.cache\nimport cloudfs.remote.dav",
    "metadata/tree.py": "import cloudfs.store.db",
    "vfs/files.py": "import cloudfs.content.read\nimport cloudfs.metadata.tree",
    "fuse/kernel.py": "import pyfuse3\nimport cloudfs.vfs.files",
    "engine/ground.py": "import cloudfs.vfs.files",
    "engine/reading.py": "import cloudfs.engine.ground",
    "account/protocol.py": "import cloudfs.engine.reading\nimport cloudfs.remote.dav",
    "account/composing.py": "import cloudfs.account.protocol",
    "daemon/serving.py": "import cloudfs.fuse.kernel\nimport cloudfs.account.protocol",
    "daemon/process.py": "import cloudfs.daemon.serving",
    "cli/main.py": "import typer\nimport rich\nimport cloudfs.daemon.process",
}


def judge(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter with the project's contracts on a tree of modules of these contents."""
    package = folder / "cloudfs"
    for name, source in {**HONEST, **changes}.items():
        module = package / name
        module.parent.mkdir(parents=True, exist_ok=True)
        (module.parent / "__init__.py").touch()
        module.write_text(source + "\n")
    command = [LINT_IMPORTS, "--config", str(REPOSITORY / "pyproject.toml"), "--no-cache"]
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_an_honest_tree_passes(tmp_path: Path) -> None:
    result = judge(tmp_path)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "source", "contract"),
    [
        ("types.py", "import cloudfs.store.db", "only from lower floors"),
        ("store/db.py", "import cloudfs.blocks.cache", "do not know each other"),
        ("metadata/tree.py", "import cloudfs.content.read", "do not know each other"),
        ("daemon/process.py", "import cloudfs.cli.main", "only from lower floors"),
        ("account/protocol.py", "import cloudfs.daemon.serving", "only from lower floors"),
        ("daemon/serving.py", "import cloudfs.daemon.process", "stands on what it serves"),
        ("account/protocol.py", "import cloudfs.account.composing", "is composed of what answers for it"),
        ("kitchen.py", "", "only from lower floors"),
        ("engine/ground.py", "import cloudfs.engine.reading", "rooms stand on those below"),
        ("engine/kitchen.py", "", "rooms stand on those below"),
        ("vfs/files.py", "import httpx", "HTTP and XML live in remote/ BROKEN"),
        ("metadata/tree.py", "import lxml.etree", "HTTP and XML live in remote/ BROKEN"),
        ("content/read.py", "import sqlite3", "SQLite lives in store/"),
        ("content/read.py", "import diskcache", "The block cache's libraries live in blocks/ BROKEN"),
        ("vfs/files.py", "import pyfuse3", "The kernel's library lives in fuse/ BROKEN"),
        ("daemon/serving.py", "import rich.console", "Terminals are cli/'s matter BROKEN"),
        (
            "fuse/kernel.py",
            "from PIL import Image",
            "D-Bus is the matter of desktop/ and secrets/, pictures are desktop/'s BROKEN",
        ),
        (
            "account/logins.py",
            "import secretstorage",
            "D-Bus is the matter of desktop/ and secrets/, pictures are desktop/'s BROKEN",
        ),
        ("ranges.py", "import trio", "The ground floor is plain Python"),
    ],
)
def test_a_broken_floor_is_found(module: str, source: str, contract: str, tmp_path: Path) -> None:
    result = judge(tmp_path, **{module: source})
    assert result.returncode == 1
    assert contract in " ".join(result.stdout.split())
    assert "1 broken" in result.stdout
