"""What is said of an account's way to its server, without asking it: whom it trusts, where the password goes."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from cloudfs.config import Account
from cloudfs.doctor.report import Finding, fine, note, problem
from cloudfs.errors import UserError
from cloudfs.remote.hrefs import origin_of
from cloudfs.remote.proxies import proxy_for
from cloudfs.remote.tls import context_of

__all__ = ["check_transit"]

_VERSIONS = {ssl.TLSVersion.TLSv1_2: "1.2 and later", ssl.TLSVersion.TLSv1_3: "1.3 and later"}


def check_transit(account: Account, name: str) -> Iterator[Finding]:
    """Look at what the account's file and the environment say."""
    yield _tls(account, name)
    yield _address(account, name)
    yield _proxy(account, name)


def _tls(account: Account, name: str) -> Finding:
    if not account.url.startswith("https:"):
        return note(
            "TLS", "the address is http: password and files go over the network as they are", "", name
        )
    try:
        context = context_of(account)
    except UserError as error:
        return problem("TLS", error.message, error.hint, name)
    if not context.cert_store_stats()["x509_ca"] and not ssl.get_default_verify_paths().capath:
        return problem("TLS", "the system trusts nobody", "Install the package ca-certificates.", name)
    version = _VERSIONS.get(context.minimum_version)
    if version is None or context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        return problem("TLS", "old versions, or any certificate, would do", "Install cloudfs anew.", name)
    return fine("TLS", f"{version}; trusted: {_trusted(account)}", name)


def _trusted(account: Account) -> str:
    trusted = f"the system's authorities{f' and {account.ca_file}' if account.ca_file else ''}"
    trusted += ", with a pinned key only" if account.pinned_keys else ""
    return trusted + (
        f"; shown to the server: {account.client_certificate}" if account.client_certificate else ""
    )


def _address(account: Account, name: str) -> Finding:
    """The password goes to the origins that the account's file names, and no redirect is followed."""
    repair = f"Log in again: `cloudfs login --account {name}` finds the addresses anew."
    try:
        origins = {origin_of(url) for url in (account.url, account.base_url) if url}
    except ValueError:
        return problem("address", f"{account.url} is no http address", repair, name)
    if len(origins) > 1:
        hosts = " and ".join(sorted(host for _, host, _ in origins))
        return problem("address", f"the account's file names two servers: {hosts}", repair, name)
    ((_, host, port),) = origins
    return fine(
        "address", f"the password goes to {host}, port {port}, and is taken nowhere else by redirects", name
    )


def _proxy(account: Account, name: str) -> Finding:
    try:
        proxy = proxy_for(account.url)
    except UserError as error:
        return problem("proxy", error.message, error.hint, name)
    return fine("proxy", "none is asked" if proxy is None else f"through {proxy.url}", name)
