"""A self-signed certificate."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers.standin.wire import Certificate


def self_signed(folder: Path) -> Certificate:
    """Make a key and a certificate for this machine, and for cloud.test, which is behind a proxy, with ``openssl``."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=cloudfs stand-in", "-keyout", str(key), "-out", str(certificate)]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:cloud.test"]
    subprocess.run(command, check=True, capture_output=True)  # fixed arguments
    return Certificate(certificate, key)
