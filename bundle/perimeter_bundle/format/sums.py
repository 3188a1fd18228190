"""SHA256SUMS: the one list of what a bundle holds, in the format of GNU sha256sum.

Every file of the bundle but SHA256SUMS itself and what lies in signatures/, one a line, sorted by
the bytes of its path. Names that GNU sha256sum would have to escape are refused, so that each
line reads the same to every tool.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.files import (
    Tree,
    list_tree,
    path_problem,
    write_file,
)
from perimeter_bundle.format.hashing import Outcome, hash_all
from perimeter_bundle.format.layout import SIGNATURES, SUMS
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_bundle.model.reader import repeated

MAX_SUMS_BYTES = 64 * MIB
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_SHOWN = 20  # problems of one kind that are written out; the rest is counted


@dataclass(frozen=True, slots=True)
class Sums:
    """Digest of every listed path; paths are relative, POSIX and sorted by their bytes."""

    digests: Mapping[str, Digest]

    def to_bytes(self) -> bytes:
        """The text of SHA256SUMS; the same files give the same bytes."""
        paths = sorted(self.digests, key=os.fsencode)
        return "".join(f"{self.digests[path].hex}  {path}\n" for path in paths).encode()

    @classmethod
    def parse(cls, data: bytes) -> Sums:
        """The list in ``data``; raises IntegrityError[bad-sums] with every problem."""
        if len(data) > MAX_SUMS_BYTES:
            raise _bad_sums([f"it has {len(data)} bytes; {MAX_SUMS_BYTES} are allowed"])
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _bad_sums([str(error)]) from error
        if not text.endswith("\n"):
            raise _bad_sums(["it is empty" if not text else "its last line does not end"])
        digests: dict[str, Digest] = {}
        problems: list[str] = []
        paths: list[str] = []
        for number, line in enumerate(text[:-1].split("\n"), 1):
            match = _LINE.fullmatch(line)
            if not match:
                problems.append(f"line {number}: not a SHA-256, two spaces and a path")
                continue
            path = match[2]
            problem = path_problem(path) or _unlistable(path)
            if problem:
                problems.append(f"line {number}: {path[:200]!r}: {problem}")
            paths.append(path)
            digests[path] = Digest(f"sha256:{match[1]}")
        problems += [f"{path!r} stands there twice" for path in repeated(paths)]
        encoded = [path.encode() for path in paths]
        if encoded != sorted(encoded):
            problems.append("its lines are not sorted by path")
        if problems:
            raise _bad_sums(problems)
        return cls(digests)


def check_tree(tree: Tree, sums: Sums) -> None:
    """Raises unless exactly the listed files are there.

    IntegrityError[odd-file], [missing-file] or [unlisted-file]. Files in signatures/ are not
    listed; who checks signatures checks their names.
    """
    if tree.odd:
        raise IntegrityError(
            "odd-file",
            "the bundle holds something that is not a plain file",
            problems=some(tree.odd),
            hint="a bundle holds plain files only; carry it over again, or ask its builder",
        )
    missing = sorted(set(sums.digests) - set(tree.files))
    if missing:
        raise IntegrityError(
            "missing-file",
            f"{len(missing)} of {len(sums.digests)} listed files are missing",
            problems=some(missing),
            hint="the copy is not complete; carry it over again",
        )
    extra = sorted(path for path in set(tree.files) - set(sums.digests) if not _unlistable(path))
    if extra:
        raise IntegrityError(
            "unlisted-file",
            f"{len(extra)} files are in the bundle but not in {SUMS}",
            problems=some(extra),
            hint="they were added after sealing; remove them once you know where they come from",
        )


def some(problems: Sequence[str]) -> tuple[str, ...]:
    """The first problems, and how many more there are."""
    rest = len(problems) - _SHOWN
    return (*problems[:_SHOWN], *([f"… and {rest} more"] if rest > 0 else []))


def hash_files(
    root: Path,
    sizes: Mapping[str, int],
    *,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
    task: str = "sums",
) -> dict[str, Digest]:
    """SHA-256 of every path in ``sizes``, all of each file, read in parallel.

    Raises IntegrityError[unreadable] or [changing] at the first that has none. Events come from
    the calling thread. An exception, Ctrl-C included, stops the readers.
    """
    found: dict[str, Digest] = {}

    def take(path: str, outcome: Outcome) -> None:
        if isinstance(outcome, IntegrityError):
            raise outcome
        found[path] = outcome

    hash_all(_whole(root, sizes), take, whole=True, on_event=on_event, workers=workers, task=task)
    return found


def check_hashes(
    root: Path,
    sizes: Mapping[str, int],
    sums: Sums,
    *,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
) -> None:
    """Raises IntegrityError unless every listed file has its listed digest: see check_extents."""
    files = _whole(root, {path: sizes[path] for path in sums.digests})
    check_extents(files, sums, whole=True, on_event=on_event, workers=workers)


def check_extents(
    files: Mapping[str, Sequence[Extent]],
    sums: Sums,
    *,
    whole: bool = False,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
) -> None:
    """Raises unless the bytes of every listed file, wherever they lie, have its listed digest.

    The first that has not is told at once, as a warning. The rest is hashed all the same:
    IntegrityError[digest-mismatch] names the first in the order of the list with both digests and
    counts the others; it is [unreadable] or [changing] when no digest is wrong.
    """
    wrong: dict[str, Outcome] = {}

    def take(path: str, outcome: Outcome) -> None:
        expected = sums.digests[path]
        if outcome == expected:
            return
        if not wrong:
            said = (
                outcome.message
                if isinstance(outcome, IntegrityError)
                else f"{path}: not the bytes that were signed: expected {expected}, found {outcome}"
            )
            on_event(Event(EventKind.WARNING, "sums", f"{said}; going on, to count the others"))
        wrong[path] = outcome

    hash_all(files, take, whole=whole, on_event=on_event, workers=workers)
    if wrong:
        raise _wrong_bytes(
            {path: wrong[path] for path in sums.digests if path in wrong}, sums, files
        )


def _wrong_bytes(
    wrong: Mapping[str, Outcome], sums: Sums, files: Mapping[str, Sequence[Extent]]
) -> IntegrityError:
    """The error for files that have another digest than listed, or none at all."""
    errors = [one for one in wrong.values() if isinstance(one, IntegrityError)]
    first = next((path for path, one in wrong.items() if isinstance(one, Digest)), None)
    if first is None:
        error = errors[0]
        return IntegrityError(
            error.code, error.message, hint=error.hint, problems=_messages(errors[1:])
        )
    rest = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return IntegrityError(
        "digest-mismatch",
        f"{first}{rest}: not the bytes that were signed",
        context={
            "expected": sums.digests[first],
            "found": wrong[first],
            "size_bytes": sum(extent.size_bytes for extent in files[first]),
        },
        hint="the copy is damaged or was changed; carry the bundle over again",
        problems=_messages(errors),
    )


def _messages(errors: Sequence[IntegrityError]) -> tuple[str, ...]:
    return some([error.message for error in errors])


def _whole(root: Path, sizes: Mapping[str, int]) -> dict[str, tuple[Extent, ...]]:
    return {path: (Extent(root / path, 0, size),) for path, size in sizes.items()}


def write_sums(
    root: Path,
    *,
    known: Mapping[str, Digest] | None = None,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
) -> Digest:
    """Writes SHA256SUMS over what lies in ``root``; the digest of its bytes.

    Files in ``known`` are not read: whoever gives their digests has proven them.
    """
    tree = list_tree(root)
    if tree.odd:
        check_tree(tree, Sums({}))
    sizes = {path: size for path, size in tree.files.items() if not _unlistable(path)}
    proven = {path: digest for path, digest in (known or {}).items() if path in sizes}
    unknown = {path: size for path, size in sizes.items() if path not in proven}
    found = hash_files(root, unknown, on_event=on_event, workers=workers)
    data = Sums({**found, **proven}).to_bytes()
    write_file(root / SUMS, data)
    return Digest.of_bytes(data)


def _unlistable(path: str) -> str | None:
    """Why a path that is allowed in a bundle is not in its list; None when it is."""
    if path == SUMS:
        return "the list does not hold itself"
    if path.startswith(f"{SIGNATURES}/"):
        return "signatures are made after the list"
    return None


def _bad_sums(problems: Sequence[str]) -> IntegrityError:
    return IntegrityError("bad-sums", f"{SUMS} cannot be used", problems=some(problems))
