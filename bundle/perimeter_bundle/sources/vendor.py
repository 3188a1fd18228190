"""Remote bases put into the tree, so that rendering needs no network.

1. From each kustomization that is rendered, everything it reaches is walked: resources, bases,
   components, patches, generators, transformers, validators, configurations, crds, openapi.
2. A remote file is put beside the kustomization that names it, a remote folder below
   ``perimeter-remote/<host>/<repository>/<commit>/``; each is walked in turn.
3. The reference becomes a relative path; nothing else of a file changes.
4. What is not there, climbs out of its tree, or comes back to itself is refused.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError
from perimeter_bundle.sources.kustomization import (
    FILE_NAMES,
    Expects,
    Reference,
    check_plugin,
    read_references,
    rewrite,
)
from perimeter_bundle.sources.remote import Remote, RemoteFile, RemoteTree, parse_remote

FOLDER = "perimeter-remote"
MAX_REMOTES = 500
MAX_CHAIN = 100


class RemoteSource(Protocol):
    """Brings what remote references name."""

    def tree(self, remote: RemoteTree, reference: str) -> tuple[str, FileTree]:
        """The commit that is meant, and all its files."""
        ...

    def file(self, remote: RemoteFile, reference: str) -> bytes:
        """The bytes behind an address."""
        ...


@dataclass(frozen=True, slots=True)
class VendoredTree:
    """A tree that refers to nothing outside; ``remote`` says what each reference stood for."""

    files: dict[str, bytes]
    remote: tuple[str, ...]  # "reference commit" or "reference sha256:…", sorted


def vendor(files: FileTree, roots: Iterable[str], source: RemoteSource, what: str) -> VendoredTree:
    """``files`` with everything that the kustomizations ``roots`` reach elsewhere.

    Raises IntegrityError[bad-kustomization], [circular-bases], InputError[bad-remote], and what
    ``source`` raises.
    """
    walk = _Walk(dict(files), source, what)
    walk.refuse_own_folder()
    for root in sorted(set(roots)):
        walk.visit(root, ())
    return VendoredTree(walk.result(files), tuple(sorted(walk.remote.values())))


def check_vendored(files: FileTree, roots: Iterable[str], what: str) -> None:
    """Raises IntegrityError[remote-reference] when rendering ``roots`` would reach out."""
    walk = _Walk(dict(files), None, what)
    for root in sorted(set(roots)):
        walk.visit(root, ())


@dataclass(slots=True)
class _Walk:
    """One walk; ``files`` is everything that is known, mounted repositories included."""

    files: dict[str, bytes]
    source: RemoteSource | None
    what: str
    mounts: dict[str, str] = field(default_factory=dict)  # folder by reference
    kept: set[str] = field(default_factory=set)  # of mounted files
    changed: dict[str, bytes] = field(default_factory=dict)
    remote: dict[str, str] = field(default_factory=dict)  # line by reference
    done: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._learn_folders(self.files)

    def refuse_own_folder(self) -> None:
        taken = sorted(path for path in self.folders if posixpath.basename(path) == FOLDER)
        if taken:
            raise self._bad(taken[0], f"a folder called {FOLDER} is there already")

    def result(self, original: FileTree) -> dict[str, bytes]:
        paths = {*original, *self.kept, *self.changed}
        return {path: self.changed.get(path, self.files.get(path, b"")) for path in paths}

    def visit(self, folder: str, chain: tuple[str, ...]) -> None:
        """Walks a kustomization and everything below it, each once."""
        if folder in chain:
            circle = [*chain[chain.index(folder) :], folder]
            raise IntegrityError(
                "circular-bases",
                f"{self.what}: kustomizations refer to each other in a circle",
                problems=[" → ".join(one or "." for one in circle)],
            )
        if folder in self.done:
            return
        if len(chain) > MAX_CHAIN:
            raise self._bad(folder, f"bases are chained deeper than {MAX_CHAIN}")
        self._keep(folder)
        path = self._kustomization_in(folder)
        data = self.files[path]
        changes: dict[Reference, str] = {}
        for reference in read_references(data, f"{self.what}: {path}"):
            self._follow(reference, folder, path, (*chain, folder), changes)
        if changes:
            self.changed[path] = rewrite(data, changes, f"{self.what}: {path}")
        self.done.add(folder)

    def _follow(
        self,
        reference: Reference,
        folder: str,
        path: str,
        chain: tuple[str, ...],
        changes: dict[Reference, str],
    ) -> None:
        if reference.expects in (Expects.PLUGIN, Expects.FILE_OR_TEXT) and "\n" in reference.text:
            if reference.expects is Expects.PLUGIN:
                self._check_plugin(reference.text.encode(), f"{path}: {reference.field}")
            return
        target = self._local(reference, folder)
        is_there = target is not None and (target in self.files or target in self.folders)
        remote = None if is_there else parse_remote(reference.text)
        if remote is not None:
            target = self._bring(remote, reference, folder, path)
            changes[reference] = self._rewritten(target, folder, reference, remote)
        elif target is None:
            raise self._bad(path, f"{reference.field}: {reference.text!r} climbs out of the source")
        self._descend(reference, target or "", path, chain)

    def _descend(
        self, reference: Reference, target: str, path: str, chain: tuple[str, ...]
    ) -> None:
        takes_folder = reference.expects in (Expects.FILE_OR_FOLDER, Expects.PLUGIN)
        if target in self.files:
            if self._mount_of(target):
                self.kept.add(target)
            if reference.expects is Expects.PLUGIN:
                self._check_plugin(self.files[target], target)
        elif takes_folder and (target in self.folders or not target):
            self.visit(target, chain)
        elif reference.expects is not Expects.FILE_OR_TEXT:
            found = "is a folder" if target in self.folders else "is not there"
            raise self._bad(path, f"{reference.field}: {reference.text!r} {found}")

    def _check_plugin(self, data: bytes, where: str) -> None:
        for text in check_plugin(data, f"{self.what}: {where}"):
            if parse_remote(text) is not None:
                raise self._bad(where, f"{text[:200]!r} is fetched by a plugin; list it directly")

    def _local(self, reference: Reference, folder: str) -> str | None:
        """The path in the tree; None when it leaves the repository the kustomization is in."""
        if reference.text.startswith("/"):
            return None
        target = posixpath.normpath(posixpath.join(folder or ".", reference.text))
        target = "" if target == "." else target
        mount = self._mount_of(folder)
        if target == ".." or target.startswith("../"):
            return None
        if mount and target != mount and not target.startswith(f"{mount}/"):
            return None
        return target

    def _bring(self, remote: Remote, reference: Reference, folder: str, path: str) -> str:
        """Where what is remote lies now: a file beside the kustomization, a tree at the top."""
        if self.source is None:
            raise IntegrityError(
                "remote-reference",
                f"{self.what}: {path}: {reference.field}: rendering would fetch {reference.text!r}",
                hint="only what the lock names is in the tree: lock again",
            )
        if len(self.remote) >= MAX_REMOTES:
            raise self._bad(path, f"more than {MAX_REMOTES} remote references")
        if isinstance(remote, RemoteFile):
            data = self.source.file(remote, reference.text)
            digest = Digest.of_bytes(data)
            self.remote[reference.text] = f"{reference.text} {digest}"
            name = posixpath.basename(remote.url)
            place = posixpath.join(folder, FOLDER, digest.hex[:12], name)
            self.files[place] = data
            self._learn_folders([place])
            self.kept.add(place)
            return place
        if reference.expects not in (Expects.FILE_OR_FOLDER, Expects.PLUGIN):
            raise self._bad(path, f"{reference.field}: {reference.text!r} is no address of a file")
        mount = self._mount(remote, reference.text, self.source)
        return posixpath.join(mount, remote.path) if remote.path else mount

    def _mount(self, remote: RemoteTree, text: str, source: RemoteSource) -> str:
        repository = remote.repository.removesuffix(".git")
        key = f"{remote.host}/{repository}?ref={remote.ref}"
        known = self.mounts.get(key)
        if known is None:
            commit, files = source.tree(remote, text)
            known = f"{FOLDER}/{remote.host.replace(':', '_')}/{repository}/{commit}"
            self.mounts[key] = known
            mounted = {f"{known}/{path}": data for path, data in files.items()}
            self.files |= mounted
            self._learn_folders(mounted)
        commit = known.rpartition("/")[2]
        self.remote[text] = f"{text} {commit}"
        return known

    def _rewritten(self, target: str, folder: str, reference: Reference, remote: Remote) -> str:
        relative = posixpath.relpath(target, folder or ".")
        path = relative if relative.startswith("..") else f"./{relative}"
        if reference.keyed and isinstance(remote, RemoteFile):
            return f"{posixpath.basename(remote.url)}={path}"
        return path

    def _keep(self, folder: str) -> None:
        """A folder of a mounted repository is kept whole: kustomize reads no file outside it."""
        mount = self._mount_of(folder)
        if mount:
            self.kept |= {path for path in self.files if path.startswith(f"{folder}/")}

    def _mount_of(self, path: str) -> str:
        return next(
            (one for one in self.mounts.values() if path == one or path.startswith(f"{one}/")), ""
        )

    def _kustomization_in(self, folder: str) -> str:
        found = [
            path for name in FILE_NAMES if (path := posixpath.join(folder, name)) in self.files
        ]
        if len(found) != 1:
            reason = "two kustomizations are there" if found else "there is no kustomization"
            raise self._bad(folder or ".", reason)
        return found[0]

    def _learn_folders(self, paths: Iterable[str]) -> None:
        for path in paths:
            above = posixpath.dirname(path)
            while above and above not in self.folders:
                self.folders.add(above)
                above = posixpath.dirname(above)

    def _bad(self, where: str, reason: str) -> IntegrityError:
        return IntegrityError("bad-kustomization", f"{self.what}: {where}: {reason}")


def remote_pins(lines: Sequence[str]) -> dict[str, str]:
    """What each reference stands for, after the lock's lines."""
    return {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in lines}
