"""Names: what the kernel may say, what goes up, and what comes back from a listing."""

from __future__ import annotations

import datetime
import errno
import unicodedata
from typing import Literal
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfs.errors import PosixError
from cloudfs.paths import (
    NameRules,
    UnrepresentableName,
    check_name,
    conflicted_copy,
    decode_segment,
    encode,
    is_below,
    is_copy_of,
    is_local_only,
    join,
    lookup_name,
    original_name,
    parent_of,
)
from cloudfs.types import RemotePath

WHEN = datetime.datetime(2026, 1, 31, 23, 59, 59, tzinfo=datetime.UTC)
RULES = NameRules(
    forbidden_characters="\\:",
    forbidden_names=frozenset({".htaccess"}),
    refuse_control_characters=True,
    refuse_dots_and_blanks=True,
    max_bytes=250,
)

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1).filter(
    lambda name: unicodedata.normalize("NFC", name) not in {".", ".."}
)
"""What another client may call a file."""


@pytest.mark.parametrize("name", [".. ", " .", " ", ". ", " .. "])
def test_dots_and_blanks_alone_are_no_name_where_the_server_refuses_them(name: str) -> None:
    with pytest.raises(PosixError) as caught:
        check_name(name.encode(), RULES)
    assert caught.value.errno == errno.EINVAL
    assert check_name(name.encode(), NameRules()) == name


@pytest.mark.parametrize("name", ["...", " a", "a ", ". a", "\u00a0"])
def test_other_names_with_dots_and_blanks_are_fine(name: str) -> None:
    assert check_name(name.encode(), RULES) == name


@given(names)
def test_a_name_survives_the_way_to_the_server_and_back(name: str) -> None:
    assert decode_segment(encode(name)) == unicodedata.normalize("NFC", name)


@given(names)
def test_encoded_names_are_plain_ascii_and_keep_what_is_safe(name: str) -> None:
    encoded = encode(name)
    assert encoded.isascii()
    assert "/" not in encoded
    assert not set(encoded) & set(" +?#&%") - {"%"}
    assert unquote(encoded) == name


def test_only_what_is_safe_goes_as_it_is() -> None:
    assert encode("/a b/+%~-_.é") == "/a%20b/%2B%25~-_.%C3%A9"


@given(st.binary(max_size=300))
def test_any_bytes_from_the_kernel_are_a_name_or_an_errno(raw: bytes) -> None:
    try:
        name = lookup_name(raw)
    except PosixError as error:
        assert error.errno in {errno.ENAMETOOLONG, errno.EILSEQ}  # noqa: PT017  # either is right
    else:
        assert unicodedata.is_normalized("NFC", name)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"x" * 256, errno.ENAMETOOLONG),
        ("é".encode() * 128, errno.ENAMETOOLONG),
        (b"\xff\xfe", errno.EILSEQ),
        (b"a\xc3", errno.EILSEQ),
        (b"\xed\xa0\x80", errno.EILSEQ),
    ],
    ids=["256 bytes", "128 letters of 2 bytes", "no UTF-8", "cut UTF-8", "a surrogate"],
)
def test_what_is_no_name_is_refused(raw: bytes, code: int) -> None:
    with pytest.raises(PosixError) as caught:
        lookup_name(raw)
    assert caught.value.errno == code


def test_names_of_255_bytes_are_names() -> None:
    assert lookup_name(b"x" * 255) == "x" * 255


def test_decomposed_letters_are_the_composed_ones() -> None:
    assert lookup_name("e\u0301".encode()) == "\u00e9"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", errno.EINVAL),
        (b".", errno.EINVAL),
        (b"..", errno.EINVAL),
        (b"a/b", errno.EINVAL),
        (b"a\0b", errno.EINVAL),
        (b"a\\b", errno.EINVAL),
        (b"a:b", errno.EINVAL),
        (b".htaccess", errno.EINVAL),
        (b".HtAccess", errno.EINVAL),
        (b"a\nb", errno.EINVAL),
        ("a\ufffe".encode(), errno.EINVAL),
        ("\uffff".encode(), errno.EINVAL),
        (b"x" * 251, errno.ENAMETOOLONG),
    ],
)
def test_what_the_server_would_refuse_is_refused_at_once(raw: bytes, code: int) -> None:
    with pytest.raises(PosixError) as caught:
        check_name(raw, RULES)
    assert caught.value.errno == code


@pytest.mark.parametrize(
    "raw", [b"a", b"...", b"a b", b" a", b"-rf", "ü.txt".encode(), b"x" * 250, b"htaccess"]
)
def test_ordinary_names_pass(raw: bytes) -> None:
    assert check_name(raw, RULES) == raw.decode()


WINDOWS = NameRules(
    forbidden_characters='\\:*?"<>|',
    forbidden_stems=frozenset({"con", "com1", ".x"}),
    forbidden_endings=(" ", ".", ".filepart", ".part"),
    max_bytes=250,
    new_file_bytes=227,
)
"""As a Nextcloud from 30 on tells that is to hold names for Windows only (protocol.md §2.4)."""


@pytest.mark.parametrize(
    "name", ["a:b", "CON", "con.txt", "Com1.tar.gz", "a ", "a.", "a.FilePart", ".x", ".x.y", "what?"]
)
def test_names_that_windows_does_not_know_are_refused_where_the_server_does(name: str) -> None:
    with pytest.raises(PosixError) as caught:
        check_name(name.encode(), WINDOWS)
    assert caught.value.errno == errno.EINVAL
    assert check_name(name.encode(), NameRules()) == name


@pytest.mark.parametrize("name", ["a.b", " a", "xcon", "console", "a.con", "part", ".hidden", "com10"])
def test_other_names_pass_there(name: str) -> None:
    assert check_name(name.encode(), WINDOWS) == name


@pytest.mark.parametrize("name", ["film.part", "a:b~", ".~lock.a?b#", "x" * 240 + "~"])
def test_names_that_stay_here_are_not_the_servers_business(name: str) -> None:
    assert check_name(name.encode(), WINDOWS, new_file=True) == name


def test_a_server_without_rules_takes_all_but_the_impossible() -> None:
    assert check_name(b"a\\b\n.htaccess", NameRules()) == "a\\b\n.htaccess"


@pytest.mark.parametrize(
    "name",
    [
        ".~lock.report.odt#",
        ".report.txt.swp",
        ".report.txt.swo",
        ".goutputstream-X1Y2Z3",
        ".Trash-1000",
        ".fuse_hidden0000000200000001",
        "report.txt~",
        "film.mkv.part",
    ],
)
def test_what_programs_leave_beside_files_never_goes_up(name: str) -> None:
    assert is_local_only(name)


@pytest.mark.parametrize(
    "name", ["report.txt", "~report.txt", ".swp", "a.swp", "part", "REPORT.PART", ".Trash"]
)
def test_everything_else_goes_up(name: str) -> None:
    assert not is_local_only(name)


@pytest.mark.parametrize(
    "segment", ["..", ".", "%2e%2e", "%2E.", "a%2fb", "a%2Fb", "a%00b", "%2f", "..%2f..%2fetc"]
)
def test_a_listing_cannot_name_anything_outside_its_folder(segment: str) -> None:
    with pytest.raises(ValueError, match="unsafe"):
        decode_segment(segment)


def test_a_name_that_is_no_utf8_cannot_be_shown() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        decode_segment("%ff%fe")


def test_a_name_that_takes_long_to_compose_is_not_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accents of two kinds in turn are sorted one by one: in one href that takes 3 s, in which nothing else runs."""
    composed: list[int] = []

    def normalize(form: Literal["NFC"], text: str) -> str:
        composed.append(len(text))
        return unicodedata_normalize(form, text)

    unicodedata_normalize = unicodedata.normalize
    monkeypatch.setattr(unicodedata, "normalize", normalize)
    for accents in (500, 5000):
        with pytest.raises(UnrepresentableName):
            decode_segment("a" + "\u0301\u0316" * accents)
    assert sum(composed) <= 2040
    for name in ("\u1f82" * 85, "\u212a" * 255):
        apart = unicodedata_normalize("NFD", name) if name[0] == "\u1f82" else name
        assert decode_segment(apart) == unicodedata_normalize("NFC", name)


def test_a_plus_is_a_plus() -> None:
    assert decode_segment("a+b%2Bc") == "a+b+c"


@pytest.mark.parametrize(
    ("path", "folder", "below"),
    [
        ("/a/b", "/a", True),
        ("/a", "/a", True),
        ("/ab", "/a", False),
        ("/a", "/", True),
        ("/", "/", True),
        ("/", "/a", False),
        ("/a", "/a/b", False),
    ],
)
def test_below_goes_by_whole_names(path: str, folder: str, below: bool) -> None:
    assert is_below(path, folder) == below


@given(st.lists(st.sampled_from(["a", "b c", "é"]), max_size=4))
def test_join_and_parent_are_inverse(segments: list[str]) -> None:
    path = RemotePath("/")
    for segment in segments:
        below = join(path, segment)
        assert parent_of(below) == path
        path = below
    assert path == "/" + "/".join(segments)
    assert parent_of(RemotePath("/")) == "/"


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        ("a.txt", "a (conflicted copy 2026-01-31 235959).txt"),
        ("a", "a (conflicted copy 2026-01-31 235959)"),
        ("a.tar.gz", "a.tar (conflicted copy 2026-01-31 235959).gz"),
        (".bashrc", ".bashrc (conflicted copy 2026-01-31 235959)"),
        ("a.", "a (conflicted copy 2026-01-31 235959)."),
    ],
)
def test_a_conflicted_copy_keeps_the_extension(name: str, copy: str) -> None:
    assert conflicted_copy(name, WHEN) == copy


def test_a_second_conflicted_copy_has_a_number() -> None:
    assert conflicted_copy("a.txt", WHEN, 1) == "a (conflicted copy 2026-01-31 235959 2).txt"


@given(names.filter(lambda name: len(name.encode()) <= 255), st.integers(0, 10**6))
def test_a_conflicted_copy_is_always_a_name_that_can_be_created(name: str, attempt: int) -> None:
    copy = conflicted_copy(name, WHEN, attempt)
    assert len(copy.encode()) <= 255
    assert check_name(copy.encode(), NameRules()) == unicodedata.normalize("NFC", copy)
    assert "conflicted copy" in copy
    assert copy != name


@pytest.mark.parametrize(
    "name",
    [
        "x" * 255,
        "x" * 251 + ".txt",
        "é" * 127,
        "🎬" * 62 + ".mp4",
        "a." + "b" * 253,
    ],
)
def test_a_conflicted_copy_of_a_long_name_is_no_longer_than_allowed(name: str) -> None:
    copy = conflicted_copy(name, WHEN, 12345)
    assert len(copy.encode()) <= 255


@given(st.sampled_from([".txt", ".jpeg", ".odt"]), st.integers(1, 250))
def test_a_conflicted_copy_of_a_long_name_keeps_an_ordinary_extension(extension: str, length: int) -> None:
    assert conflicted_copy("x" * length + extension, WHEN).endswith(extension)


@pytest.mark.parametrize(
    "name",
    ["a.txt", "a", ".hidden", "a.tar.gz", "a.", "x (conflicted copy 2026-01-31 235959).txt", "ä (1).b c"],
)
@pytest.mark.parametrize("attempt", [0, 1, 12])
def test_a_copy_is_known_by_its_name(name: str, attempt: int) -> None:
    copy = conflicted_copy(name, WHEN, attempt)
    assert is_copy_of(copy, name)
    assert original_name(copy) == name
    assert not is_copy_of(copy, f"other {name}")


def test_a_copy_with_a_cut_stem_is_known_by_its_name() -> None:
    name = "é" * 120 + ".txt"
    copy = conflicted_copy(name, WHEN)
    assert is_copy_of(copy, name)
    assert original_name(copy) != name


@pytest.mark.parametrize(
    "name",
    ["a.txt", "a (conflicted copy).txt", "a (conflicted copy 2026-99-99 999999).txt", " (conflicted copy x)"],
)
def test_other_names_are_no_copies(name: str) -> None:
    assert not is_copy_of(name, "a.txt")
