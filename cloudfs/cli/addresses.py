"""What is typed for a login, looked at before anything is loaded that could ask a server: mistakes are told at once."""

from __future__ import annotations

import ipaddress
import re
import sys
from urllib.parse import urlsplit

from cloudfs.cli.common import pick_known
from cloudfs.config import Folders, check_account_name, load_account
from cloudfs.errors import ExitCode, UserError
from cloudfs.remote.address import parse_address

__all__ = ["check", "known", "name_of_host", "require_text"]


def known(account: str | None, user: str | None) -> tuple[str, str, str]:
    """Return address, user and name of an account that somebody logs in to again; UserError NO_ACCOUNT."""
    folders = Folders.from_environment()
    name = pick_known(folders, account)
    record = load_account(folders, name)
    return record.url, user or record.user, name


def check(url: str, user: str | None, account: str | None, *, allow_http: bool) -> None:
    """Raise UserError where it cannot be used."""
    if account is not None:
        check_account_name(account)
    _require_encryption(url, allow_http=allow_http)
    if user is not None:
        require_text("user name", user)


def require_text(what: str, text: str) -> None:
    """Raise UserError where a name or password that somebody gave is none."""
    if not text:
        raise UserError(f"The {what} is empty.", hint="Check where it comes from.", code=ExitCode.USAGE)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"The {what} is not UTF-8 text.", hint="Check where it comes from.", code=ExitCode.USAGE
        ) from error


def _require_encryption(url: str, *, allow_http: bool) -> None:
    """Before the password is asked for, let alone sent: say, and usually refuse, what plain http means.

    Also where the server would lead on to https: whoever is on the way could leave that out.
    """
    parts = urlsplit(parse_address(url).url)
    if parts.scheme != "http" or _is_this_machine(parts.hostname or ""):
        return
    if not allow_http:
        raise UserError(
            f"{url} is not encrypted: everybody on the way could read the password and the files.",
            hint="Use its https address, or --allow-http if you trust the whole network.",
            code=ExitCode.USAGE,
        )
    sys.stderr.write(
        f"Warning: {url} is not encrypted: everybody on the way can read the password and the files.\n"
    )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def name_of_host(host: str) -> str:
    """Return the name that an account of a server gets where nobody chose one."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in host)
    name = re.sub("-{2,}", "-", plain).strip(".-")[:63]
    return name if name and name != "run" else "account"
