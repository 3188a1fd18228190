"""Small wheels made in memory, for pip and for the site's own index."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

DATE = (2026, 1, 1, 0, 0, 0)


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    requires_python: str = "",
) -> Path:
    """A wheel with one module of that name, in ``folder``; the same arguments, the same bytes."""
    module = name.replace("-", "_").lower()
    info = f"{module}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", "License-Expression: MIT"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    files = {
        f"{module}.py": f"version = {version!r}\n".encode(),
        f"{info}/METADATA": "\n".join([*lines, "", "text"]).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    record = ""
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path, DATE), data)
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-{version}-{tag}.whl"
    wheel.write_bytes(raw.getvalue())
    return wheel


def hash_line(wheel: Path, marker: str = "") -> str:
    """The line of a hashed requirements file that asks for exactly this wheel."""
    name, version, *_ = wheel.name.split("-")
    condition = f" ; {marker}" if marker else ""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}=={version}{condition} --hash=sha256:{digest}\n"
