"""Searching by file id, as push messages need it (protocol.md §4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

import httpx
import pytest

from tests.conformance.conftest import Target
from tests.conformance.dav import Dav, Entry

_NAMES = ("d:resourcetype", "d:getetag", "oc:fileid", "d:getcontentlength")
_XMLNS = 'xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"'


def question(scope: str, where: str, most: int | None = 1000) -> str:
    select = "".join(f"<{name}/>" for name in _NAMES)
    limit = "" if most is None else f"<d:limit><d:nresults>{most}</d:nresults></d:limit>"
    return (
        f'<?xml version="1.0"?><d:searchrequest {_XMLNS}><d:basicsearch>'
        f"<d:select><d:prop>{select}</d:prop></d:select>"
        f"<d:from><d:scope><d:href>{escape(scope)}</d:href><d:depth>infinity</d:depth></d:scope></d:from>"
        f"<d:where>{where}</d:where><d:orderby/>{limit}</d:basicsearch></d:searchrequest>"
    )


def by_ids(ids: Iterable[str]) -> str:
    each = (f"<d:eq><d:prop><oc:fileid/></d:prop><d:literal>{it}</d:literal></d:eq>" for it in ids)
    return f"<d:or>{''.join(each)}</d:or>"


def ask(
    cloud: Dav, nextcloud: Target, body: str, kind: str = "application/xml; charset=utf-8"
) -> httpx.Response:
    url = f"{nextcloud.site_url}/remote.php/dav/"
    return cloud.client.request("SEARCH", url, content=body, headers={"Content-Type": kind} if kind else {})


def scope_of(cloud: Dav) -> str:
    return unquote(urlsplit(cloud.folder_url).path).removeprefix("/remote.php/dav").rstrip("/")


def found(cloud: Dav, nextcloud: Target, body: str) -> dict[str, Entry]:
    return {entry.path: entry for entry in cloud.entries(ask(cloud, nextcloud, body))}


def ids_of(cloud: Dav, *paths: str) -> list[str]:
    return [cloud.stat(path, "oc:fileid").found["oc:fileid"] for path in paths]


@pytest.fixture
def filled(cloud: Dav) -> Dav:
    cloud.mkcol("a")
    cloud.mkcol("a/bé & c")
    cloud.put("a/bé & c/file", "content")
    cloud.put("other", "x")
    return cloud


def test_one_question_tells_the_paths_of_many_ids(filled: Dav, nextcloud: Target) -> None:
    paths = ["a/bé & c/file", "a/bé & c", "other"]
    told = found(filled, nextcloud, question(scope_of(filled), by_ids(ids_of(filled, *paths))))
    assert told.keys() == {"a/bé & c/file", "a/bé & c/", "other"}
    assert told["a/bé & c/"].is_folder
    assert not told["other"].is_folder
    listed = filled.stat("a/bé & c/file", "d:getetag", "oc:fileid").found
    assert {name: told["a/bé & c/file"].found[name] for name in listed} == listed


def test_an_id_that_is_gone_or_never_was_is_found_nowhere(filled: Dav, nextcloud: Target) -> None:
    ids = ids_of(filled, "other")
    filled.request("DELETE", "other")
    assert found(filled, nextcloud, question(scope_of(filled), by_ids([*ids, "987654321"]))) == {}


def test_what_lies_outside_the_scope_and_the_scope_itself_are_not_found(
    filled: Dav, nextcloud: Target
) -> None:
    ids = ids_of(filled, "a", "other", "a/bé & c")
    assert found(filled, nextcloud, question(f"{scope_of(filled)}/a", by_ids(ids))).keys() == {"a/bé & c/"}


def test_a_hundred_comparisons_are_taken_and_one_more_is_refused(filled: Dav, nextcloud: Target) -> None:
    ids = ids_of(filled, "other") + [str(10**8 + number) for number in range(99)]
    assert found(filled, nextcloud, question(scope_of(filled), by_ids(ids))).keys() == {"other"}
    assert ask(filled, nextcloud, question(scope_of(filled), by_ids([*ids, "1"]))).status_code == 500


def test_ids_are_only_compared_for_equality(filled: Dav, nextcloud: Target) -> None:
    where = "<d:gt><d:prop><oc:fileid/></d:prop><d:literal>1</d:literal></d:gt>"
    assert ask(filled, nextcloud, question(scope_of(filled), where)).status_code == 500


def test_a_question_needs_a_condition_a_type_and_a_folder_of_ones_own(filled: Dav, nextcloud: Target) -> None:
    where = by_ids(ids_of(filled, "other"))
    assert ask(filled, nextcloud, question(scope_of(filled), "")).status_code == 500
    assert ask(filled, nextcloud, question(scope_of(filled), where), kind="").status_code == 501
    assert ask(filled, nextcloud, question(f"{scope_of(filled)}/none", where)).status_code == 404
    assert ask(filled, nextcloud, question(f"{scope_of(filled)}/other", where)).status_code == 500
    assert ask(filled, nextcloud, question("/remote.php/dav/files/x", where)).status_code == 404
