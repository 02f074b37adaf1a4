"""A client certificate whose key never leaves its token: by OpenSSL's provider for PKCS#11, where that is installed.

Debian 12 has none; CLOUDFS_TEST_PKCS11 names one that was built (github.com/latchset/pkcs11-provider). The token is
SoftHSM's.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.standin.tls import self_signed

PROVIDER = Path(os.environ.get("CLOUDFS_TEST_PKCS11") or "/usr/lib/x86_64-linux-gnu/ossl-modules/pkcs11.so")
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "12345678"

_ASK = """
import os, socket, ssl, sys, threading
from pathlib import Path
from cloudfs.remote.tls import make_context

certificate, key, server_key, uri = map(Path, sys.argv[1:])
accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
accepting.load_cert_chain(certificate, server_key)
accepting.load_verify_locations(certificate)
accepting.verify_mode = ssl.CERT_REQUIRED
listener = socket.create_server(("127.0.0.1", 0))

def serve():
    with accepting.wrap_socket(listener.accept()[0], server_side=True) as stream:
        stream.sendall(b"met" if stream.getpeercert(binary_form=True) else b"unknown")

threading.Thread(target=serve, daemon=True).start()
context = make_context(certificate, client_certificate=certificate, client_key=uri)
with context.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="127.0.0.1") as stream:
    print(stream.recv(10).decode(), flush=True)
os._exit(0)  # SoftHSM 2.6 crashes when a process ends in order
"""


def reference(uri: bytes) -> str:
    """Return a key's file that only says where the key is. SOURCE: tools/uri2pem.py of the provider."""
    said = b"PKCS#11 Provider URI v1.0"
    body = bytes([0x1A, len(said)]) + said + bytes([0x0C, len(uri)]) + uri
    lines = base64.encodebytes(bytes([0x30, len(body)]) + body).decode()
    return f"-----BEGIN PKCS#11 PROVIDER URI-----\n{lines}-----END PKCS#11 PROVIDER URI-----\n"


@pytest.mark.skipif(
    not (PROVIDER.exists() and MODULE.exists() and shutil.which("softhsm2-util")),
    reason="no provider of OpenSSL's for PKCS#11, or no SoftHSM",
)
def test_a_key_that_stays_in_its_token(tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    environ = {**os.environ, "SOFTHSM2_CONF": str(tmp_path / "softhsm")}
    token = ["softhsm2-util", "--pin", PIN, "--label"]
    subprocess.run([*token, "t", "--init-token", "--free", "--so-pin", PIN], env=environ, check=True)
    key = tmp_path / "pkcs8.pem"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", made.key, "-out", key],
        check=True,
        capture_output=True,
    )
    subprocess.run([*token, "k", "--import", key, "--token", "t", "--id", "01"], env=environ, check=True)
    (tmp_path / "pin").write_text(PIN)
    (tmp_path / "openssl.cnf").write_text(
        "openssl_conf = init\n[init]\nproviders = all\n[all]\ndefault = builtin\npkcs11 = tokens\n"
        f"[builtin]\nactivate = 1\n[tokens]\nactivate = 1\nmodule = {PROVIDER}\npkcs11-module-path = {MODULE}\n"
        f"pkcs11-module-token-pin = file:{tmp_path / 'pin'}\n"
    )
    uri = tmp_path / "uri.pem"
    uri.write_text(reference(b"pkcs11:token=t;object=k;type=private"))
    command = [sys.executable, "-c", _ASK, *map(str, (made.certificate, key, made.key, uri))]
    environ["OPENSSL_CONF"] = str(tmp_path / "openssl.cnf")
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "met\n", done.stderr
