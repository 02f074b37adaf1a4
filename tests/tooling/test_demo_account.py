"""The demo's account: what it has is what its names say."""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path

import pytest

from scripts._demo_account import build
from tests.tooling.needs import missing


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("account")
    build(tree)
    return tree


def test_a_viewer_opens_every_picture(account: Path) -> None:
    name = ctypes.util.find_library("gdk_pixbuf-2.0")
    if name is None:
        missing("the library gdk-pixbuf (scripts/setup --tests installs it, with a file manager)")
    viewer = ctypes.CDLL(name)
    viewer.gdk_pixbuf_new_from_file.restype = ctypes.c_void_p
    pictures = [path for path in account.rglob("*") if path.suffix in {".png", ".jpg"}]
    assert {path.suffix for path in pictures} == {".png", ".jpg"}
    for path in pictures:
        shown = viewer.gdk_pixbuf_new_from_file(bytes(path), None)
        assert shown, path
        assert viewer.gdk_pixbuf_get_width(ctypes.c_void_p(shown)) == 640
        assert viewer.gdk_pixbuf_get_height(ctypes.c_void_p(shown)) == 480
        viewer.g_object_unref(ctypes.c_void_p(shown))


def test_pictures_are_named_by_what_they_are(account: Path) -> None:
    starts = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff\xe0"}
    for path in account.rglob("*"):
        if path.suffix in starts:
            assert path.read_bytes().startswith(starts[path.suffix]), path
