"""The files of one commit, read object by object: nothing is checked out and nothing is believed.

Counts and sizes are known before anything is read, so a repository of few objects that stand for
billions of files is refused early. Links become copies of what they point to inside the tree; one
that leaves it is refused. Submodules are left out.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.format.files import path_problem
from perimeter_bundle.format.source_tree import MAX_TREE_BYTES, MAX_TREE_FILES
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.errors import HostError, IntegrityError
from perimeter_bundle.tools.run import clean_environment, run_tool

MAX_DEPTH = 40
MAX_LISTING_BYTES = 64 * MIB  # all folders of one depth
MAX_LINK_BYTES = 4096
READ_TIMEOUT_S = 300.0
_CHUNK_BYTES = 32 * MIB
_FOLDER, _LINK, _SUBMODULE = 0o040000, 0o120000, 0o160000
_FILES = (0o100644, 0o100755, 0o100664)
_ALWAYS_KEPT = ("LICENSE", "LICENCE", "COPYING", "NOTICE")  # at the top: they go where files go


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: int
    oid: str


@dataclass(slots=True)
class _Found:
    """What lies in the tree, before a file is read."""

    files: dict[str, str] = field(default_factory=dict)  # object by path
    links: dict[str, str] = field(default_factory=dict)
    count: int = 0


def read_commit(repository: Path, commit: str, keep: Sequence[str], what: str) -> dict[str, bytes]:
    """Contents by path of the files of ``commit`` that are in the folders ``keep`` (none: all).

    Licence files at the top are kept always. Raises IntegrityError[bad-source] and
    [source-too-large]; ``what`` names the source.
    """
    found = _list(repository, commit, keep, what)
    blobs = sorted({*found.files.values(), *found.links.values()})
    sizes = _sizes(repository, blobs, what)
    total = sum(sizes[oid] for oid in found.files.values())
    _refuse_size(total, what)
    contents = dict(_read(repository, blobs, sizes, what))
    files = {path: contents[oid] for path, oid in found.files.items()}
    links = {path: contents[oid] for path, oid in found.links.items()}
    if links:
        _copy_links(files, links, what)
    if keep and not any(path.startswith(f"{folder}/") for path in files for folder in keep):
        raise IntegrityError(
            "bad-source", f"{what} has none of the folders to keep: {', '.join(keep)}"
        )
    return files


def _list(repository: Path, commit: str, keep: Sequence[str], what: str) -> _Found:
    found = _Found()
    level = [("", f"{commit}^{{tree}}")]
    for _ in range(MAX_DEPTH):
        trees = sorted({oid for _, oid in level})
        sizes = _sizes(repository, trees, what)
        if sum(sizes.values()) > MAX_LISTING_BYTES:
            raise _too_large(what, "its folders list too much")
        listings = dict(_read(repository, trees, sizes, what))
        level = list(_descend(level, listings, found, keep, what, len(commit) // 2))
        if not level:
            return found
    raise _too_large(what, f"its folders are nested deeper than {MAX_DEPTH}")


def _descend(
    level: list[tuple[str, str]],
    listings: dict[str, bytes],
    found: _Found,
    keep: Sequence[str],
    what: str,
    oid_bytes: int,
) -> Iterator[tuple[str, str]]:
    """Puts the files of these folders into ``found`` and gives back the folders below."""
    for prefix, oid in level:
        for name, entry in _entries(listings[oid], oid_bytes, what):
            path = f"{prefix}/{name}" if prefix else name
            if not _is_kept(path, entry.mode == _FOLDER, keep):
                continue
            problem = path_problem(path) or ("it is git's own" if name.lower() == ".git" else "")
            if problem:
                raise IntegrityError("bad-source", f"refused {what}: {path[:200]!r}: {problem}")
            found.count += 1
            if found.count > MAX_TREE_FILES:
                raise _too_large(what, f"it holds more than {MAX_TREE_FILES} files and folders")
            if entry.mode == _FOLDER:
                yield path, entry.oid
            elif entry.mode == _LINK:
                found.links[path] = entry.oid
            elif entry.mode in _FILES:
                found.files[path] = entry.oid
            elif entry.mode != _SUBMODULE:
                raise IntegrityError(
                    "bad-source", f"refused {what}: {path!r} is neither a file nor a folder"
                )


def _is_kept(path: str, is_folder: bool, keep: Sequence[str]) -> bool:
    if not keep:
        return True
    if "/" not in path and not is_folder:
        return path.upper().startswith(_ALWAYS_KEPT)
    return any(
        f"{path}/".startswith(f"{folder}/") or (is_folder and folder.startswith(f"{path}/"))
        for folder in keep
    )


def _entries(listing: bytes, oid_bytes: int, what: str) -> Iterator[tuple[str, _Entry]]:
    """https://git-scm.com/book/en/v2/Git-Internals-Git-Objects: mode, name, NUL, raw id."""
    position = 0
    while position < len(listing):
        end = listing.find(b"\0", position)
        mode, space, name = listing[position:end].partition(b" ")
        position = end + 1 + oid_bytes
        if end < 0 or not space or not mode.isdigit() or position > len(listing):
            raise IntegrityError("bad-source", f"refused {what}: a folder's listing is broken")
        oid = listing[end + 1 : position].hex()
        yield name.decode("utf-8", "surrogateescape"), _Entry(int(mode, 8), oid)


def _copy_links(files: dict[str, bytes], links: dict[str, bytes], what: str) -> None:
    """Every link becomes a copy of what it points to."""
    plain = dict(files)
    total = sum(len(data) for data in files.values())
    for path in sorted(links):
        target = _target(path, links, what)
        copies = {path: plain[target]} if target in plain else {}
        below = f"{target}/"
        copies |= {
            f"{path}/{name.removeprefix(below)}": data
            for name, data in plain.items()
            if not copies and name.startswith(below)
        }
        if not copies:
            shown = links[path][:100].decode("utf-8", "replace")
            raise IntegrityError(
                "bad-source",
                f"refused {what}: link {path!r} leads to {shown!r}, which is not in the tree",
            )
        total += sum(len(data) for data in copies.values())
        _refuse_size(total, what)
        files.update(copies)
        if len(files) > MAX_TREE_FILES:
            raise _too_large(what, "its links stand for too many files")


def _target(path: str, links: dict[str, bytes], what: str) -> str:
    """Where a link leads at last, links to links followed."""
    seen = {path}
    place = path
    while place in links:
        text = links[place].decode("utf-8", "surrogateescape")
        joined = posixpath.normpath(posixpath.join(posixpath.dirname(place), text))
        if text.startswith("/") or joined.split("/")[0] == ".." or len(text) > MAX_LINK_BYTES:
            raise IntegrityError(
                "bad-source",
                f"refused {what}: link {path!r} leads out of the tree",
                context={"link": text[:100].encode("utf-8", "replace").decode()},
            )
        if joined in seen:
            raise IntegrityError("bad-source", f"refused {what}: link {path!r} leads to itself")
        seen.add(joined)
        place = joined
    return place


def _sizes(repository: Path, oids: Iterable[str], what: str) -> dict[str, int]:
    names = list(oids)
    lines = _cat_file(repository, "--batch-check", names, what).decode("ascii", "replace")
    sizes = {}
    for name, line in zip(names, lines.splitlines(), strict=True):
        words = line.split(" ")
        if len(words) != 3 or not words[2].isdigit():
            raise IntegrityError("bad-source", f"{what}: git has no object {name}: {line[:100]}")
        sizes[name] = int(words[2])
    return sizes


def _read(
    repository: Path, oids: Sequence[str], sizes: dict[str, int], what: str
) -> Iterator[tuple[str, bytes]]:
    """Contents by object; what one call of git gives is bounded."""
    chunk: list[str] = []
    size = 0
    for oid in oids:
        _refuse_size(sizes[oid], what)
        if chunk and size + sizes[oid] > _CHUNK_BYTES:
            yield from _read_chunk(repository, chunk, sizes, what)
            chunk, size = [], 0
        chunk.append(oid)
        size += sizes[oid]
    if chunk:
        yield from _read_chunk(repository, chunk, sizes, what)


def _read_chunk(
    repository: Path, oids: list[str], sizes: dict[str, int], what: str
) -> Iterator[tuple[str, bytes]]:
    output = _cat_file(repository, "--batch", oids, what)
    position = 0
    for oid in oids:
        start = output.index(b"\n", position) + 1
        position = start + sizes[oid] + 1
        yield oid, output[start : position - 1]


def _cat_file(repository: Path, mode: str, names: list[str], what: str) -> bytes:
    environment = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    try:
        return run_tool(
            ["git", "-C", repository, "cat-file", mode],
            folder=repository,
            environment=clean_environment(repository, environment),
            timeout_s=READ_TIMEOUT_S,
            what=f"reading {what}",
            input_bytes="".join(f"{name}\n" for name in names).encode(),
        ).stdout
    except HostError as error:
        raise IntegrityError(
            "bad-source", f"{what}: git cannot read what it fetched", problems=error.problems
        ) from error


def _refuse_size(size_bytes: int, what: str) -> None:
    if size_bytes > MAX_TREE_BYTES:
        raise _too_large(what, f"its files are more than {MAX_TREE_BYTES} bytes together")


def _too_large(what: str, reason: str) -> IntegrityError:
    return IntegrityError(
        "source-too-large",
        f"refused {what}: {reason}",
        hint="name the folders that are needed under keep: in the source's file",
    )
