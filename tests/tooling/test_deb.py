"""The .deb, built once: what is in it, and that what it brings runs on the system's Python."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.tooling.needs import in_ci, missing

REPOSITORY = Path(__file__).parents[2]
MOMENT = 1_700_000_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Package:
    """The package, unpacked."""

    path: Path
    tree: Path
    control: Path

    def field(self, name: str) -> str:
        """Return a field of its control file."""
        command = ["dpkg-deb", "--field", str(self.path), name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    @property
    def packages(self) -> Path:
        """Where the Python packages lie."""
        (folder,) = self.tree.glob("usr/lib/cloudfs/lib/python3.*/site-packages")
        return folder

    def files(self) -> list[Path]:
        """Return every file of it."""
        return [path for path in self.tree.rglob("*") if path.is_file() and not path.is_symlink()]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    if shutil.which("dpkg-deb") is None or shutil.which("apt-get") is None:
        missing("a Debian system")
    folder = tmp_path_factory.mktemp("deb")
    done = subprocess.run(
        [REPOSITORY / "scripts/build-deb", folder],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(MOMENT), "DEB_BUILD_OPTIONS": "noopt"},  # quicker by half
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert list(folder.iterdir()) == [path]
    subprocess.run(["dpkg-deb", "--extract", path, folder / "tree"], check=True)
    subprocess.run(["dpkg-deb", "--control", path, folder / "control"], check=True)
    return Package(path, folder / "tree", folder / "control")


def test_what_it_needs(package: Package) -> None:
    """Python in the version that it was compiled for, FUSE's program and library: nothing that compiles."""
    needed = [word.split(" ")[0] for word in package.field("Depends").split(", ")]
    assert package.packages.parent.name in needed
    assert "fuse3" in needed
    assert any(re.fullmatch(r"libfuse3-\d", word) for word in needed)
    assert not any(
        word.endswith(("-dev", "-venv")) or word in {"gcc", "make", "pkg-config"} for word in needed
    )


def test_each_thing_is_where_debian_looks_for_it(package: Package) -> None:
    for name in (
        "usr/share/man/man1/cloudfs.1.gz",
        "usr/share/bash-completion/completions/cloudfs",
        "usr/share/zsh/vendor-completions/_cloudfs",
        "usr/share/fish/vendor_completions.d/cloudfs.fish",
        "usr/lib/systemd/user/cloudfs@.service",
        "usr/lib/udev/rules.d/70-cloudfs.rules",
        "usr/lib/udev/cloudfs-readahead",
        "usr/share/doc/cloudfs/copyright",
        "usr/share/doc/cloudfs/changelog.gz",
        "usr/share/doc/cloudfs/sbom.cdx.json",
    ):
        assert (package.tree / name).stat().st_size > 100, name
    program = package.tree / "usr/bin/cloudfs"
    assert program.resolve() == package.tree / "usr/lib/cloudfs/bin/cloudfs"
    assert program.read_text().startswith("#!/usr/lib/cloudfs/bin/python3 ")
    assert os.access(program, os.X_OK)
    assert os.access(package.tree / "usr/lib/udev/cloudfs-readahead", os.X_OK)
    assert gzip.decompress((package.tree / "usr/share/man/man1/cloudfs.1.gz").read_bytes()).startswith(b".\\")


def test_its_unit_starts_its_program(package: Package) -> None:
    unit = (package.tree / "usr/lib/systemd/user/cloudfs@.service").read_text()
    assert re.findall("^ExecStart=(.*)$", unit, re.MULTILINE) == [
        "/usr/bin/cloudfs mount --foreground %i ${CLOUDFS_PLACE}"
    ]
    assert "%h/.local" not in unit


def test_nothing_in_it_knows_where_it_was_built(package: Package) -> None:
    places = [str(REPOSITORY).encode(), b"cloudfs-deb-", str(package.path.parent).encode()]
    knowing = [path for path in package.files() if any(place in path.read_bytes() for place in places)]
    assert knowing == []
    assert [path for path in package.files() if path.suffix == ".pyc"] == []
    links = [os.readlink(path) for path in package.tree.rglob("*") if path.is_symlink()]
    assert [link for link in links if link.startswith("/")] == []


def test_its_sums_are_right(package: Package) -> None:
    lines = [line.split("  ", 1) for line in (package.control / "md5sums").read_text().splitlines()]
    sums = {name: total for total, name in lines}
    assert sums == {
        str(path.relative_to(package.tree)): hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in package.files()
    }


def test_owners_modes_and_times(package: Package) -> None:
    command = ["dpkg-deb", "--contents", str(package.path)]
    environ = {**os.environ, "TZ": "UTC"}
    listing = subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout
    for line in listing.splitlines():
        mode, owner, _, day, *_ = line.split()
        assert mode in {"drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx"}, line
        assert owner == "root/root"
        assert day == "2023-11-14"


def test_its_parts_are_listed_as_they_are(package: Package) -> None:
    bill = json.loads((package.tree / "usr/share/doc/cloudfs/sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "cloudfs"
    shipped = dict(
        path.name.removesuffix(".dist-info").split("-") for path in package.packages.glob("*.dist-info")
    )
    assert shipped.pop("cloudfs") == bill["metadata"]["component"]["version"]
    listed = {canonicalize_name(part["name"]): part for part in bill["components"]}
    for name, version in shipped.items():
        part = listed[canonicalize_name(name)]
        assert part["version"] == version
        hashes = [it["hashes"] for it in part["externalReferences"] if "hashes" in it]
        assert hashes, part
    locked = set(re.findall(r"^(\S+)==", (REPOSITORY / "requirements/run.txt").read_text(), re.MULTILINE))
    assert set(listed) == locked  # some only for other systems


def test_it_runs_on_the_system_s_python(package: Package) -> None:
    """Installed is another matter: here it lies in a folder, which only its Python packages do not mind."""
    python = f"/usr/bin/{package.packages.parent.name}"
    program = (
        "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); import msgspec, pyfuse3, xxhash\n"
        "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    start = package.tree / "usr/lib/cloudfs/bin/cloudfs"
    command = [python, "-I", "-B", "-c", program, str(package.packages), str(start), "--version"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cloudfs ")


def test_its_scripts_are_plain_shell(package: Package) -> None:
    for name in ("postinst", "prerm"):
        assert os.access(package.control / name, os.X_OK)
        subprocess.run(["sh", "-n", package.control / name], check=True)


def test_lintian_finds_no_error(package: Package) -> None:
    if in_ci() or shutil.which("lintian") is None:
        pytest.skip("at a desk that has lintian: it takes as long as the build")
    command = ["lintian", "--allow-root", "--fail-on", "error", "--tag-display-limit", "0", str(package.path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
