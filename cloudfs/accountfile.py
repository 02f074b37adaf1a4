"""Reads an account's file; a mistake in it is a sentence that names the file, the line and the key."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from cloudfs import bandwidth
from cloudfs.errors import ExitCode, UserError
from cloudfs.paths import mount_path
from cloudfs.settings import Account, Bandwidth, published_at

__all__ = ["parse"]


def parse(path: Path, text: bytes) -> Account:
    """Return what the text of an account's file says; `path` is for the sentence. Raises UserError BAD_CONFIG."""
    try:
        account = msgspec.toml.decode(text, type=Account)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        key, sentence = _explain(error)
        syntax = _LINE.search(sentence)
        place = f"{path}:{syntax[1]}" if syntax else _at(path, text, key)
        raise _bad(
            f"{place}: {sentence}",
            "Correct the file (docs/CONFIG.md says what may be in it), or delete it and log in again.",
        ) from error
    _check(path, text, account)
    return account


def _check(path: Path, text: bytes, account: Account) -> None:
    """Look at what the kinds of the values do not tell."""
    _check_url(_at(path, text, "url"), "url", account.url)
    if account.base_url:
        _check_url(_at(path, text, "base_url"), "base_url", account.base_url)
    if not account.user:
        raise _bad(f"{_at(path, text, 'user')}: user: is empty.", "Log in again.")
    for kept in account.settings.keep:
        _check_kept(_at(path, text, "settings.keep"), kept)
    _check_bandwidth(path, text, account.bandwidth)
    try:
        if account.settings.metrics is not None:
            published_at(account.settings.metrics)
    except ValueError as error:
        place = _at(path, text, "settings.metrics")
        raise _bad(
            f"{place}: settings.metrics: {error}.", "Give a port (1024 to 65535), or a path as in /a/b.prom."
        ) from error


def _check_bandwidth(path: Path, text: bytes, said: Bandwidth) -> None:
    for key, parse in (
        ("up", bandwidth.parse_timetable),
        ("down", bandwidth.parse_timetable),
        ("metered", bandwidth.parse_metered),
        ("metered_up", bandwidth.parse_metered),
    ):
        try:
            parse(getattr(said, key))
        except ValueError as error:
            place = f"bandwidth.{key}"
            raise _bad(
                f"{_at(path, text, place)}: {place}: {error}.",
                'A speed is written as "2 MB/s", "512k" or "off", a table as "08:00 512k 19:00 off" (docs/CONFIG.md).',
            ) from error


def _check_kept(place: str, kept: str) -> None:
    try:
        mount_path(kept)
    except ValueError as error:
        raise _bad(f"{place}: settings.keep: {error}.", 'Write it as in "/Documents/Letters".') from error


def _explain(error: Exception) -> tuple[str, str]:
    """Return the key in question and the sentence: of "Expected `int` - at `$.a.b`" a.b, "a.b: expected `int`."."""
    text, _, at = str(error).partition(" - at `$")
    place = at.rstrip("`").lstrip(".")
    if unknown := _UNKNOWN_KEY.search(text):
        place = ".".join(filter(None, (place, unknown[1])))
        return place, f"{place}: there is no such setting."
    return place, f"{place}: {text[:1].lower()}{text[1:]}." if place else f"{text.rstrip('.')}."


_LINE = re.compile(r"\(at line (\d+)")
_UNKNOWN_KEY = re.compile(r"unknown field `([^`]*)`")
_TABLE = re.compile(r"\s*\[([^\[\]]+)\]")
_KEY = re.compile(r"""\s*["']?([\w.-]+)["']?\s*=""")


def _at(path: Path, text: bytes, place: str) -> str:
    """Name the file, and the line where that can be told: FILE:LINE."""
    table, missing = "", ""
    for number, line in enumerate(text.decode(errors="replace").splitlines(), 1):
        if header := _TABLE.match(line):
            table = header[1].strip() + "."
            missing = f":{number}" if place == table.rstrip(".") else missing
        elif (key := _KEY.match(line)) and (table + key[1] == place or place.startswith(f"{table}{key[1]}.")):
            return f"{path}:{number}"
    return f"{path}{missing}"


def _check_url(place: str, key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise _bad(
            f"{place}: {key}: not a plain http or https address.", "Log in again with the right address."
        )


def _bad(message: str, hint: str) -> UserError:
    return UserError(message, hint=hint, code=ExitCode.BAD_CONFIG)
