"""Programs of the bundle that render, run with no way out."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from perimeter_bundle.format.layout import blob_path
from perimeter_bundle.format.manifest import ItemKind
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError
from perimeter_bundle.model.reference import INTERNAL_HOST

RENDER_TIMEOUT_S = 300.0
MAX_OBJECTS_BYTES = 64 * MIB
MAX_PROGRAM_BYTES = 256 * MIB
_NOWHERE = "http://127.0.0.1:9"


def bundled_program(bundle: VerifiedBundle, name: str) -> bytes:
    """The program of the component ``name`` for this machine, out of its archive, hashed again.

    Raises InputError[not-in-bundle], IntegrityError[digest-mismatch].
    """
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    for item in bundle.manifest.items_of(ItemKind.FILE):
        ours = item.name.startswith(f"{INTERNAL_HOST}/files/{name}/{name}:")
        if ours and f"linux/{machine}" in item.platforms:
            data = bundle.read(blob_path(item.payload))
            with (
                gzip.GzipFile(fileobj=io.BytesIO(data)) as stream,
                tarfile.open(fileobj=stream, mode="r|") as archive,
            ):
                for member in archive:
                    is_it = PurePosixPath(member.name).name == name
                    if is_it and member.isreg() and member.size <= MAX_PROGRAM_BYTES:
                        reader = archive.extractfile(member)
                        return reader.read() if reader else b""
    raise InputError("not-in-bundle", f"this bundle has no {name} for linux/{machine}")


def run_alone(words: Sequence[str | Path], folder: Path, what: str) -> bytes:
    """What the program of the first word prints; ``folder`` is its home.

    It has a network of its own without a way out where the system allows it, and files it writes
    are bounded. Raises HostError[cannot-run], IntegrityError[not-rendered] with what it says.
    """
    name = Path(words[0]).name
    environment = {"PATH": "/nonexistent", "HOME": str(folder), "LANG": "C.UTF-8"}
    environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), _NOWHERE)
    limit = ["/bin/sh", "-c", 'ulimit -f "$1"; shift; exec "$@"', "sh"]
    limit.append(str(MAX_OBJECTS_BYTES // 512))
    printed = folder / "printed"
    try:
        with printed.open("wb") as out:
            done = subprocess.run(
                [*limit, *_no_network(), *words],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                timeout=RENDER_TIMEOUT_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError("cannot-run", f"{name} cannot render {what}: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        shown = [line.replace(str(folder), "") for line in lines if not line.startswith("# Warn")]
        raise IntegrityError("not-rendered", f"{name} cannot render {what}", problems=shown[-5:])
    return printed.read_bytes()


def _no_network() -> list[str]:
    """Words that leave a program without a network; none where the system does not allow it."""
    unshare = shutil.which("unshare") if os.geteuid() == 0 else None
    if unshare is None:
        return []
    words = [unshare, "--net", "--"]
    tried = subprocess.run([*words, "/bin/true"], capture_output=True, timeout=10, check=False)
    return words if tried.returncode == 0 else []
