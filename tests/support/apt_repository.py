"""A small signed apt repository, as a server would hold it, made with the real gpg."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

Serve = Callable[[str, bytes], object]


class AptKeys:
    """A signing key of the test's own; ``keyring`` is what gpgv reads."""

    def __init__(self, folder: Path, algorithm: str = "ed25519") -> None:
        self.home = folder / "gnupg"
        self.home.mkdir(mode=0o700, parents=True)
        self.keyring = folder / "archive.gpg"
        self.gpg(
            "--passphrase", "", "--quick-generate-key", "test archive", algorithm, "sign", "never"
        )
        self.keyring.write_bytes(self.gpg("--export"))

    def sign(self, text: str) -> bytes:
        """``text`` as InRelease."""
        return self.gpg("--clearsign", "--output", "-", input=text.encode())

    def gpg(self, *arguments: str, input: bytes = b"") -> bytes:
        """What gpg prints, with this key alone."""
        done = subprocess.run(
            ["gpg", "--batch", "--yes", "--no-tty", "--homedir", str(self.home), *arguments],
            input=input, capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout


def package(name: str, version: str, depends: str = "", architecture: str = "amd64") -> bytes:
    """The bytes of a package: nobody unpacks them here."""
    return f"{name} {version} {depends} {architecture}".encode()


def serve_repository(
    serve: Serve,
    keys: AptKeys,
    packages: Mapping[str, tuple[str, str]],
    *,
    base: str = "/ubuntu",
    suite: str = "jammy",
    all_names: tuple[str, ...] = (),
) -> None:
    """Serves ``packages`` (name: version and Depends) under ``base``, signed by ``keys``."""
    stanzas = []
    for name, (version, depends) in packages.items():
        architecture = "all" if name in all_names else "amd64"
        data = package(name, version, depends, architecture)
        path = f"pool/{name}_{version.rpartition(':')[2]}_{architecture}.deb"
        serve(f"{base}/{path}", data)
        lines = {
            "Package": name, "Architecture": architecture, "Version": version, "Depends": depends,
            "Description": "a package\n of the test", "Filename": path, "Size": str(len(data)),
            "SHA256": hashlib.sha256(data).hexdigest(),
        }  # fmt: skip
        stanzas.append("\n".join(f"{key}: {value}" for key, value in lines.items() if value))
    index = gzip.compress("\n\n".join(stanzas).encode(), mtime=0)
    digest = hashlib.sha256(index).hexdigest()
    release = (
        f"Origin: test\nSuite: {suite}\nSHA256:\n {digest} {len(index)}"
        " main/binary-amd64/Packages.gz\n"
    )
    serve(f"{base}/dists/{suite}/main/binary-amd64/Packages.gz", index)
    serve(f"{base}/dists/{suite}/InRelease", keys.sign(release))
