"""An authority of the lab's own, and one certificate with all names of the upstream."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .host import command

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
CA_EXTENSIONS = (
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier=hash",
)
LEAF_EXTENSIONS = (
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "extendedKeyUsage=serverAuth",
    "subjectKeyIdentifier=hash",
    "authorityKeyIdentifier=keyid",
)


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificate and key of an authority."""

    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path, name: str = "upstream-ca") -> Authority:
        """The authority of a folder, made on first use."""
        authority = cls(folder / f"{name}.crt", folder / f"{name}.key")
        if not (authority.certificate.exists() and authority.key.exists()):
            folder.mkdir(parents=True, exist_ok=True)
            argv = ["openssl", "req", "-x509", "-new", *NEW_KEY, "-days", "3650"]
            argv += ["-subj", "/O=perimeter lab/CN=perimeter lab upstream"]
            for extension in CA_EXTENSIONS:
                argv += ["-addext", extension]
            paths = ["-keyout", str(authority.key), "-out", str(authority.certificate)]
            command([*argv, *paths])
            authority.key.chmod(0o600)
        return authority

    def issue(self, names: Iterable[str], certificate: Path, key: Path, days: int = 365) -> None:
        """Write a server certificate for the names; ``IP:…`` names an address."""
        alternatives = ",".join(n if n.startswith("IP:") else f"DNS:{n}" for n in sorted(names))
        with tempfile.TemporaryDirectory(prefix="perimeter-lab-") as work:
            request, extensions = Path(work, "csr"), Path(work, "extensions")
            lines = (*LEAF_EXTENSIONS, f"subjectAltName={alternatives}")
            extensions.write_text("\n".join(lines) + "\n")
            argv = ["openssl", "req", "-new", *NEW_KEY, "-subj", "/O=perimeter lab/CN=upstream"]
            command([*argv, "-keyout", str(key), "-out", str(request)])
            key.chmod(0o600)
            argv = ["openssl", "x509", "-req", "-in", str(request), "-out", str(certificate)]
            argv += ["-CA", str(self.certificate), "-CAkey", str(self.key), "-CAcreateserial"]
            command([*argv, "-days", str(days), "-extfile", str(extensions)])


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
