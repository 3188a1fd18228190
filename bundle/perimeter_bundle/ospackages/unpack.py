"""Indexes as they travel: fetched by their digest, unpacked up to a limit."""

from __future__ import annotations

import gzip
import io
import lzma
from pathlib import Path

from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError
from perimeter_bundle.tools.run import clean_environment, run_tool

MAX_INDEX_BYTES = 128 * MIB
MAX_UNPACKED_BYTES = 1024 * MIB
ZSTD_TIMEOUT_S = 300.0


def fetch_index(
    url: str, digest: Digest, size_bytes: int, promised_by: str, upstream: Upstream, code: str
) -> bytes:
    """The packed index at ``url``; ``code`` is the error of its kind of repository.

    Raises IntegrityError[digest-mismatch] or [code], NetworkError.
    """
    if size_bytes > MAX_INDEX_BYTES:
        raise IntegrityError(code, f"{url} is larger than any honest one")
    data = upstream.files.fetch_small(url, size_bytes)
    found = digest.of_same_kind(data)
    if found != digest:
        raise IntegrityError(
            "digest-mismatch",
            f"refused {url}: it is not what {promised_by} promises",
            context={"expected": digest, "got": found},
            hint="the mirror may just be taking over a new state: try again in some minutes",
        )
    return data


def unpack_index(data: bytes, url: str, work: Path, code: str) -> bytes:
    """``data`` unpacked by what the end of ``url`` says: .xz, .gz, .zst or nothing.

    Raises IntegrityError[code], HostError[tool-missing] without zstd.
    """
    if url.endswith(".zst"):
        return _by_zstd(data, url, work, code)
    if not url.endswith((".xz", ".gz")):
        return data
    try:
        opened = lzma.open if url.endswith(".xz") else gzip.open
        with opened(io.BytesIO(data)) as stream:
            unpacked = stream.read(MAX_UNPACKED_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise IntegrityError(code, f"{url} cannot be unpacked: {error}") from error
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise _too_large(url, code)
    return unpacked


def _by_zstd(data: bytes, url: str, work: Path, code: str) -> bytes:
    packed, plain = work / "index.zst", work / "index.plain"
    packed.write_bytes(data)
    try:
        run_tool(
            ["zstd", "--quiet", "--force", "--memory=256MB", "-d", packed, "-o", plain],
            folder=work,
            environment=clean_environment(work),
            timeout_s=ZSTD_TIMEOUT_S,
            what=f"unpacking {url}",
            file_limit_bytes=MAX_UNPACKED_BYTES,
        )
        return plain.read_bytes()
    except HostError as error:
        if error.code == "tool-missing":
            error.hint = "install zstd, or name a mirror whose indexes are packed with gz or xz"
            raise
        if error.code == "tool-output":
            raise _too_large(url, code) from error
        raise IntegrityError(code, f"{url} cannot be unpacked", problems=error.problems) from error
    finally:
        plain.unlink(missing_ok=True)


def _too_large(url: str, code: str) -> IntegrityError:
    return IntegrityError(code, f"{url} unpacks to more than any honest index")
