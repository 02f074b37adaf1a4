"""The package itself: its control files, and the tree packed in the same way every time."""

from __future__ import annotations

import hashlib
import os
import platform
import string
import tomllib
from pathlib import Path

from scripts._deb.environment import Home, run

__all__ = ["maintainer", "pack", "version_of"]


def version_of(root: Path) -> str:
    """Return the version, with the distribution that it is for: its Python and its libraries are needed."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    system = platform.freedesktop_os_release()
    return f"{project['version']}+{system['ID']}{system.get('VERSION_ID', '')}"


def maintainer() -> str:
    """Return who is to be asked."""
    name, address = os.environ.get("DEBFULLNAME"), os.environ.get("DEBEMAIL")
    return f"{name or 'The cloudfs authors'} <{address or 'cloudfs@example.org'}>"


def pack(root: Path, tree: Path, home: Home, folder: Path, work: Path) -> Path:
    """Write the control files into `tree`, and the package into `folder`; return its path."""
    values = {
        "version": version_of(root),
        "architecture": run(["dpkg", "--print-architecture"]).strip(),
        "maintainer": maintainer(),
        "size_kib": str(sum(-(-path.lstat().st_size // 1024) for path in tree.rglob("*"))),
        "python": home.python,
        "libraries": _libraries(home, work),
    }
    control = tree / "DEBIAN"
    control.mkdir()
    text = string.Template((root / "scripts/_deb/control").read_text()).substitute(values)
    (control / "control").write_text(text)
    for script in ("postinst", "prerm"):
        (control / script).write_text((root / "scripts/_deb" / script).read_text())
        (control / script).chmod(0o755)
    (control / "md5sums").write_text(_sums(tree))
    _settle(tree)
    path = folder / f"cloudfs_{values['version']}_{values['architecture']}.deb"
    run(["dpkg-deb", "--root-owner-group", "-Zxz", *_effort(), "--build", tree, path])
    return path


def _effort() -> list[str]:
    """Return how hard to compress: little where Debian's word for trials is said (`noopt`, Policy 4.9.1)."""
    return ["-z1"] if "noopt" in os.environ.get("DEB_BUILD_OPTIONS", "").split() else []


def _libraries(home: Home, work: Path) -> str:
    """Return the packages of the libraries that compiled modules need, in the versions that these were built with."""
    (work / "debian").mkdir()
    (work / "debian/control").write_text("Source: cloudfs\n\nPackage: cloudfs\nArchitecture: any\n")
    modules = [f"-e{path}" for path in sorted(home.packages.rglob("*.so"))]
    said = run(["dpkg-shlibdeps", "-O", "--ignore-missing-info", *modules], folder=work)
    return said.strip().removeprefix("shlibs:Depends=")


def _sums(tree: Path) -> str:
    files = [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]
    lines = []
    for path in files:
        name = path.relative_to(tree)
        if name.parts[0] != "DEBIAN":
            # dpkg's own format has MD5; it is against damage and not against attacks.
            total = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            lines.append(f"{total}  {name}\n")
    return "".join(lines)


def _settle(tree: Path) -> None:
    """Give everything its final mode and time."""
    moment = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in (*tree.rglob("*"), tree):
        if not path.is_symlink():
            runs = path.is_dir() or bool(path.stat().st_mode & 0o100)
            path.chmod(0o755 if runs else 0o644)
        os.utime(path, (moment, moment), follow_symlinks=False)
