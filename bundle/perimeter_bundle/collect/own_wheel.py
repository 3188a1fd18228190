"""The wheel of perimeter itself, made again from what is running; the same bytes every time.

From a checkout hatchling builds it; from an installation it is put together again from RECORD.
Entries are stored, not compressed: zlib differs between machines.
https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from perimeter_bundle.catalog.content import is_checkout
from perimeter_bundle.model.errors import HostError, IntegrityError
from perimeter_bundle.tools.run import clean_environment, run_tool

DISTRIBUTION = "perimeter"
BUILD_TIMEOUT_S = 180.0
_EPOCH = "1767225600"  # 2026-01-01; a wheel needs a date and must not have today's
_DATE = (2026, 1, 1, 0, 0, 0)
_NOT_PACKED = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"})
_CONTENT = "perimeter_bundle/_content/"


@dataclass(frozen=True, slots=True)
class OwnWheel:
    """``files`` holds every file of the wheel but RECORD, by path."""

    name: str  # perimeter-0.1.0-py3-none-any.whl
    version: str
    files: Mapping[str, bytes]

    def content(self, folder: str) -> dict[str, bytes]:
        """What the wheel carries for bundles below ``folder`` (roles, playbooks), by path in it."""
        prefix = f"{_CONTENT}{folder}/"
        return {
            path.removeprefix(prefix): data
            for path, data in self.files.items()
            if path.startswith(prefix) and "__pycache__" not in path
        }

    def to_bytes(self) -> bytes:
        """The wheel: sorted, one date, RECORD last."""
        info_folder = next(path for path in self.files if path.endswith(".dist-info/WHEEL"))
        record_path = info_folder.removesuffix("WHEEL") + "RECORD"
        ordered = sorted(self.files.items(), key=lambda item: (".dist-info/" in item[0], item[0]))
        lines = [f"{path},{_record_hash(data)},{len(data)}\n" for path, data in ordered]
        record = "".join([*lines, f"{record_path},,\n"]).encode()
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for path, data in [*ordered, (record_path, record)]:
                entry = zipfile.ZipInfo(path, _DATE)
                entry.create_system = 3  # Unix, wherever it is made
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, data)
        return target.getvalue()


def own_wheel(content: Path, work: Path) -> OwnWheel:
    """perimeter as it runs here; ``content`` is what content_root() gave.

    Raises HostError[tool-failed], IntegrityError[changed-installation].
    """
    if is_checkout(content):
        return _from_checkout(content, work)
    return _from_installation()


def _from_checkout(checkout: Path, work: Path) -> OwnWheel:
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=work) as folder_name:
        folder = Path(folder_name)
        run_tool(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
            folder=checkout,
            environment=clean_environment(folder, {"SOURCE_DATE_EPOCH": _EPOCH}),
            timeout_s=BUILD_TIMEOUT_S,
            what="build the wheel of perimeter from this checkout (needs hatchling)",
        )
        path = next(folder.glob("perimeter-*.whl"))
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            files = {name: archive.read(name) for name in names if _is_packed(name)}
    return OwnWheel(path.name, path.name.split("-")[1], files)


def _from_installation() -> OwnWheel:
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError as error:
        raise HostError(
            "not-installed",
            "perimeter is neither installed as a package nor run from a checkout",
            hint="install its wheel with pip, then build again",
        ) from error
    files, changed = {}, []
    for entry in distribution.files or []:
        name = PurePosixPath(entry).as_posix()
        if not _is_packed(name):
            continue
        data = Path(str(distribution.locate_file(entry))).read_bytes()
        if entry.hash is not None and entry.hash.value != _record_hash(data).partition("=")[2]:
            changed.append(name)
        files[name] = data
    if changed or not files:
        raise IntegrityError(
            "changed-installation",
            "files of the installed perimeter were changed; it is not put into a bundle",
            problems=changed[:20],
            hint="install it again",
        )
    return OwnWheel(
        f"{DISTRIBUTION}-{distribution.version}-py3-none-any.whl", distribution.version, files
    )


def _is_packed(name: str) -> bool:
    """Scripts (outside of the package folder), caches and the installer's notes are not part."""
    path = PurePosixPath(name)
    if ".." in path.parts or path.is_absolute() or path.suffix == ".pyc":
        return False
    return not (path.parent.name.endswith(".dist-info") and path.name in _NOT_PACKED)


def _record_hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"
