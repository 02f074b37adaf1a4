"""The virtual environment: every package built once, then installed where it will be on the user's machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename

__all__ = ["Home", "Tools", "fill", "run"]

SYSTEM_PYTHON = "/usr/bin/python3"
"""The one that the package will run on: that of the same distribution."""
PREFIX = Path("/usr/lib/cloudfs")
PATIENCE_S = 3600

_START = """\
#!{python} -I
import sys

from {module} import {function}

sys.exit({function}())
"""

_FROM_AFAR = """\
import runpy
import sys

sys.path.insert(0, sys.argv.pop(1))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Before it is installed, the environment's link to the system's Python leads nowhere."""


@dataclass(frozen=True)
class Home:
    """The environment in the tree that is being packed."""

    tree: Path
    python: str
    """The system's Python by the name of its package and program: python3.11."""
    version: str

    @property
    def folder(self) -> Path:
        """Where it lies now."""
        return self.tree / PREFIX.relative_to("/")

    @property
    def packages(self) -> Path:
        """Its site-packages, as it lies now."""
        return self.folder / "lib" / self.python / "site-packages"

    @property
    def start(self) -> Path:
        """The command, as it lies now."""
        return self.folder / "bin/cloudfs"

    def cloudfs(self, *words: str) -> str:
        """Return what the packed `cloudfs` prints."""
        return run(
            [f"/usr/bin/{self.python}", "-I", "-B", "-c", _FROM_AFAR, self.packages, self.start, *words]
        )


def run(command: list[str | Path], environ: dict[str, str] | None = None, folder: Path | None = None) -> str:
    """Return what a program prints; end this program with its sentences when it fails."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **(environ or {})},
        timeout=PATIENCE_S,
    )
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
        sys.exit(f"build-deb: failed ({done.returncode}): {' '.join(map(str, command[:6]))} …")
    return done.stdout


@dataclass(frozen=True)
class Tools:
    """A second environment, of the same Python, with what builds packages."""

    root: Path
    work: Path

    @classmethod
    def make(cls, root: Path, work: Path) -> Tools:
        """Make it, in the versions that are locked."""
        tools = cls(root, work)
        run([SYSTEM_PYTHON, "-m", "venv", work / "tools"])
        needed: list[str | Path] = ["--no-compile", "--require-hashes"]
        for name in ("build", "package"):
            needed += ["--requirement", root / f"requirements/{name}.txt"]
        tools.pip("install", "--no-build-isolation", *needed)
        return tools

    def pip(self, *words: str | Path) -> None:
        """Run pip, which shows errors only."""
        environ = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **_flags()}
        run([self.work / "tools/bin/python", "-m", "pip", "-qq", *words], environ)

    def wheels(self) -> list[Path]:
        """Build or fetch a wheel of each package that cloudfs needs, and of itself; reproducible."""
        folder = self.work / "wheels"
        options: list[str | Path] = ["--no-build-isolation", "--no-deps", "--wheel-dir", folder]
        self.pip("wheel", *options, "--require-hashes", "--requirement", self.root / "requirements/run.txt")
        self.pip("wheel", *options, self.root)
        return sorted(folder.glob("*.whl"))


def _flags() -> dict[str, str]:
    """Return the distribution's own flags for compilers; no symbols, which name files of the build, nor their sum."""
    shown = run(["dpkg-buildflags"], {"DEB_BUILD_MAINT_OPTIONS": "hardening=+all"})
    flags = dict(line.partition("=")[::2] for line in shown.splitlines())
    flags["CFLAGS"] += " -g0"
    flags["LDFLAGS"] += " -s -Wl,--build-id=none"
    return {name: flags[name] for name in ("CFLAGS", "CPPFLAGS", "LDFLAGS")}


def fill(tools: Tools, tree: Path, wheels: list[Path]) -> Home:
    """Make the environment in `tree`, install the wheels, and take out all that knows where it was made."""
    python, version = run(
        [
            SYSTEM_PYTHON,
            "-c",
            "import platform, sys; print('python%d.%d' % sys.version_info[:2], platform.python_version())",
        ]
    ).split()
    home = Home(tree, python, version)
    run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", home.folder])
    names = ["{}=={}".format(*parse_wheel_filename(wheel.name)[:2]) for wheel in wheels]
    where: list[str | Path] = ["--python", home.folder / "bin/python3"]
    local: list[str | Path] = [
        "--no-index",
        "--find-links",
        tools.work / "wheels",
        "--no-deps",
        "--no-compile",
    ]
    tools.pip(*where, "install", *local, *names)
    _make_movable(home)
    _write_start(home, tools.root)
    for library in home.packages.rglob("*.so"):
        run(["strip", "--strip-unneeded", library])  # not every wheel comes so
    return home


def _make_movable(home: Home) -> None:
    settings = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {home.version}\n"
    (home.folder / "pyvenv.cfg").write_text(settings)
    programs = home.folder / "bin"
    shutil.rmtree(programs)
    programs.mkdir()
    (programs / "python3").symlink_to(f"../../../bin/{home.python}")
    for path in home.packages.rglob("*.py"):
        path.chmod(0o644)  # some are programs as well, for a Python that is not there
    for record in home.packages.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith("../")))  # what was taken out
    (home.folder / "lib64").unlink(missing_ok=True)
    shutil.rmtree(home.folder / "include", ignore_errors=True)


def _write_start(home: Home, root: Path) -> None:
    """Write the command as pip would, but for the Python at its place to come."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["cloudfs"].partition(":")
    home.start.write_text(_START.format(python=PREFIX / "bin/python3", module=module, function=function))
    home.start.chmod(0o755)
