"""An authority and the certificates of a run: ECDSA P-256, made by openssl, gone with the run's directory."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """Files in PEM. `both` holds chain and key, as HAProxy wants them."""

    chain: str
    key: str
    both: str


@dataclass(frozen=True)
class Certificates:
    authority: str
    #: Of every proxy that is called: the name that callers use, and 127.0.0.1.
    server: Identity
    #: Of every proxy and load generator that calls.
    client: Identity


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True, timeout=30)


def make_certificates(directory: Path, host: str) -> Certificates:
    directory.mkdir()
    curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    authority, authority_key = directory / "authority.pem", directory / "authority.key"
    openssl("genpkey", *curve, "-out", str(authority_key))
    openssl(
        "req", "-x509", "-new", "-key", str(authority_key), "-sha256", "-days", "2", "-subj", "/CN=Benchmark authority",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", str(authority),
    )  # fmt: skip

    def identity(name: str, alternatives: str, usage: str) -> Identity:
        chain, key, request, extensions, both = (directory / f"{name}.{end}" for end in ("pem", "key", "csr", "cnf", "both"))
        openssl("genpkey", *curve, "-out", str(key))
        openssl("req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-out", str(request))
        extensions.write_text(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
            f"extendedKeyUsage={usage}\nsubjectAltName={alternatives}\n"
        )
        openssl(
            "x509", "-req", "-in", str(request), "-CA", str(authority), "-CAkey", str(authority_key), "-CAcreateserial", "-sha256",
            "-days", "2", "-extfile", str(extensions), "-out", str(chain),
        )  # fmt: skip
        both.write_text(chain.read_text() + key.read_text())
        return Identity(str(chain), str(key), str(both))

    return Certificates(
        str(authority),
        identity("origin", f"DNS:{host},IP:127.0.0.1,URI:spiffe://bench.local/origin", "serverAuth"),
        identity("caller", "DNS:caller.bench.local,URI:spiffe://bench.local/caller", "clientAuth"),
    )
