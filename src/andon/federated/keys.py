"""Keys and certificates for a federation: an authority of its own, the server's certificate, and a key pair for each site.

The authority's certificate says to the sites that the server is the right one (TLS); a site's key says to the server
that the site is one of those that were invited. Elliptic curves P-384, as Flower's nodes use.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from andon.errors import MissingExtraError, SettingsError
from andon.files import atomic_write

if TYPE_CHECKING:
    from cryptography import x509

YEARS = 2  # that the server's certificate is valid
AUTHORITY, CERTIFICATE, SERVER_KEY, SITE_KEY = "ca.crt", "server.pem", "server.key", "site.key"
SERVER = "server"  # the folder that the server gets


def make_keys(folder: Path, sites: Sequence[str], hosts: Sequence[str]) -> list[Path]:
    """The folders written into ``folder``: ``server``, and one a site, each with all that its owner needs.

    ``hosts``: names and addresses by which the sites reach the server. The authority's own key is thrown away: for
    another host, or after two years, all is made anew. Raises :class:`SettingsError` for bad names, and where
    ``folder`` holds something already.
    """
    _check(folder, sites, hosts)
    ec, hashes, serialization = _cryptography()
    authority, server = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    root = _certificate("Andon federation", authority.public_key(), authority, "Andon federation", (), hashes)
    own = _certificate(
        "Andon federation server", server.public_key(), authority, "Andon federation", hosts, hashes
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    ca = root.public_bytes(pem)
    _write(folder / SERVER / AUTHORITY, ca)
    _write(folder / SERVER / CERTIFICATE, own.public_bytes(pem))
    _write(
        folder / SERVER / SERVER_KEY,
        server.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain),
        secret=True,
    )
    for site in sites:
        key = ec.generate_private_key(ec.SECP384R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        private = key.private_bytes(pem, serialization.PrivateFormat.OpenSSH, plain)
        _write(folder / SERVER / f"{site}.pub", public + b"\n")
        _write(folder / site / AUTHORITY, ca)
        _write(folder / site / SITE_KEY, private, secret=True)
    return [folder / name for name in (SERVER, *sites)]


def _check(folder: Path, sites: Sequence[str], hosts: Sequence[str]) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise SettingsError(
            f"{folder} is not empty; keys are made once, into a new folder. Give another one."
        )
    if not sites or not hosts:
        raise SettingsError("give the names of the sites, and at least one name or address of the server")
    for site in sites:
        if site == SERVER or not site.replace("-", "").replace("_", "").isalnum():
            raise SettingsError(
                f"a site's name is made of letters, digits, - and _, and is not {SERVER!r}; got {site!r}"
            )
    if len(set(sites)) < len(sites):
        raise SettingsError(f"two sites have the same name: {', '.join(sites)}")


def _certificate(
    subject: str, public: Any, signer: Any, issuer: str, hosts: Sequence[str], hashes: Any
) -> x509.Certificate:
    """One signed by ``signer``; for ``hosts``, or, without any, an authority's own."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(public)
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=not hosts, path_length=None), critical=True)
    )  # fmt: skip
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False
        )
    return builder.sign(signer, hashes.SHA384())


def _alternative(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _cryptography() -> tuple[Any, Any, Any]:
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise MissingExtraError("cryptography", extra="federated", purpose="making keys") from error
    return ec, hashes, serialization


def _write(path: Path, data: bytes, *, secret: bool = False) -> None:
    with atomic_write(path) as file:
        if secret:
            os.chmod(file.name, 0o600)
        file.write(data)
    if secret:
        path.chmod(0o600)
