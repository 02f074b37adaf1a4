"""What is locked: that it is whole, that it fits pyproject.toml, and that it names no place to fetch it from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "requirements"
FILES = ("run", "test", "lint", "build", "package", "fuzz")


def wanted(name: str) -> list[str]:
    """Return what pyproject.toml asks for in that file."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    if name == "run":
        return list(settings["project"]["dependencies"])
    return list(settings["dependency-groups"][name])


def locked(name: str) -> dict[str, tuple[Requirement, int]]:
    """Return each package of a file with the number of its hashes."""
    text = re.sub(r"^#.*\n", "", (FOLDER / f"{name}.txt").read_text(), flags=re.MULTILINE)
    entries: dict[str, tuple[Requirement, int]] = {}
    for entry in text.replace("\\\n", " ").splitlines():
        plain, *hashes = re.split(r"\s+--hash=sha256:", entry.strip())
        assert all(re.fullmatch("[0-9a-f]{64}", it) for it in hashes)
        requirement = Requirement(plain)
        entries[canonicalize_name(requirement.name)] = requirement, len(hashes)
    return entries


def versions(names: Iterable[str]) -> dict[str, set[str]]:
    """Return in which versions each package is locked."""
    found: dict[str, set[str]] = {}
    for name in names:
        for package, (requirement, _) in locked(name).items():
            found.setdefault(package, set()).add(str(requirement.specifier))
    return found


def test_there_is_a_file_for_every_group() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert {"run", *settings["dependency-groups"]} == set(FILES)
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.txt" for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_it_has_what_pyproject_asks_for(name: str) -> None:
    """If not: `scripts/lock`."""
    entries = locked(name)
    for line in wanted(name):
        asked = Requirement(line)
        requirement, _ = entries[canonicalize_name(asked.name)]
        (pin,) = requirement.specifier
        assert asked.specifier.contains(pin.version), f"{asked} is locked as {requirement}"


@pytest.mark.parametrize("name", FILES)
def test_each_package_is_one_version_with_the_hashes_of_its_files(name: str) -> None:
    entries = locked(name)
    assert entries
    for requirement, hashes in entries.values():
        assert [pin.operator for pin in requirement.specifier] == ["=="], requirement
        assert requirement.url is None
        assert hashes >= 1, requirement


def test_a_package_in_several_files_has_one_version() -> None:
    assert {package: found for package, found in versions(FILES).items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", FILES)
def test_no_place_to_fetch_from_is_in_it(name: str) -> None:
    """Whose index it is, is the matter of whoever installs."""
    assert re.findall(r"://|--(?:index|extra|find|trusted)", (FOLDER / f"{name}.txt").read_text()) == []
