"""What lies around the environment: each thing where Debian looks for it."""

from __future__ import annotations

import gzip
import os
import shutil
import string
from email.utils import formatdate
from pathlib import Path

from scripts._deb.archive import maintainer, version_of
from scripts._deb.environment import PREFIX, Home, Tools, run

__all__ = ["arrange"]

_COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/cloudfs",
    "zsh": "usr/share/zsh/vendor-completions/_cloudfs",
    "fish": "usr/share/fish/vendor_completions.d/cloudfs.fish",
}
_CHANGES = """\
cloudfs ({version}) unstable; urgency=medium

  * Built from the sources of this version; CHANGELOG.md.gz says what changed.

 -- {maintainer}  {date}
"""


def arrange(root: Path, tree: Path, home: Home, tools: Tools) -> None:
    """Put all of it into `tree`."""
    (tree / "usr/bin").mkdir()
    (tree / "usr/bin/cloudfs").symlink_to(f"../{PREFIX.relative_to('/usr')}/bin/cloudfs")
    _write(tree / "usr/share/man/man1/cloudfs.1.gz", (root / "docs/cloudfs.1").read_text())
    shutil.rmtree(home.folder / "share", ignore_errors=True)
    for shell, place in _COMPLETIONS.items():
        _write(tree / place, home.cloudfs("completion", shell))
    unit = (root / "systemd/cloudfs@.service").read_text()
    _write(
        tree / "usr/lib/systemd/user/cloudfs@.service",
        unit.replace("%h/.local/bin/cloudfs", "/usr/bin/cloudfs"),
    )
    rules, program = tree / "usr/lib/udev/rules.d/70-cloudfs.rules", tree / "usr/lib/udev/cloudfs-readahead"
    _write(rules, (root / "scripts/_deb/udev.rules").read_text())
    _write(program, (root / "scripts/_deb/readahead").read_text())
    program.chmod(0o755)
    overrides = (root / "scripts/_deb/lintian-overrides").read_text()
    _write(tree / "usr/share/lintian/overrides/cloudfs", overrides)
    _documents(root, tree / "usr/share/doc/cloudfs", home, tools)


def _documents(root: Path, folder: Path, home: Home, tools: Tools) -> None:
    text = string.Template((root / "scripts/_deb/copyright").read_text())
    _write(folder / "copyright", text.substitute(python=home.python))
    date = formatdate(int(os.environ["SOURCE_DATE_EPOCH"]))
    changes = _CHANGES.format(version=version_of(root), maintainer=maintainer(), date=date)
    _write(folder / "changelog.gz", changes)
    guides = (f"docs/{name}.md" for name in ("SEMANTICS", "CONFIG", "CONTROL", "SECURITY"))
    for name in ("CHANGELOG.md", "README.md", *guides):
        _write(folder / f"{Path(name).name}.gz", (root / name).read_text())
    _write(folder / "sbom.cdx.json", _bill_of_materials(root, tools))


def _bill_of_materials(root: Path, tools: Tools) -> str:
    """Return the parts of the package as CycloneDX writes them down: what is locked, with its hashes."""
    command: list[str | Path] = [tools.work / "tools/bin/cyclonedx-py", "requirements"]
    command += ["--pyproject", root / "pyproject.toml", "--output-reproducible", "--output-format", "JSON"]
    return run([*command, root / "requirements/run.txt"])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = text.encode()
    path.write_bytes(gzip.compress(raw, 9, mtime=0) if path.suffix == ".gz" else raw)
