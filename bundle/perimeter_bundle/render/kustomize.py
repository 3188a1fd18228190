"""A kustomization of a vendored tree → its objects, by the very kustomize that is carried.

Nothing can be fetched while it runs: remote references are looked for before; the program runs in
a network of its own where the system allows it, with a proxy that is nowhere and no git in reach.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from perimeter_bundle.discover.kubeadm import this_platform
from perimeter_bundle.discover.stream import MAX_OBJECTS_BYTES
from perimeter_bundle.format.files import read_file
from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.sources.vendor import check_vendored
from perimeter_bundle.tools.run import clean_environment, run_tool

PROGRAM = "kustomize"
RENDER_TIMEOUT_S = 300.0
MAX_ARCHIVE_BYTES = 256 * MIB
MAX_PROGRAM_BYTES = 256 * MIB
_NOWHERE = "http://127.0.0.1:9"  # the port of the discard service; nothing listens


@dataclass(frozen=True, slots=True)
class Kustomize:
    """A program that was checked, and a folder for its work."""

    program: Path
    folder: Path

    @contextmanager
    def tree(self, files: FileTree, what: str) -> Iterator[RenderTree]:
        """The tree written out, to be rendered from as often as is needed."""
        with tempfile.TemporaryDirectory(prefix="tree-", dir=self.folder) as name:
            root = Path(name)
            for path, data in files.items():
                target = root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            yield RenderTree(self, files, root, what)


@dataclass(frozen=True, slots=True)
class RenderTree:
    """A source on disc; ``what`` names it in errors."""

    kustomize: Kustomize
    files: FileTree
    root: Path
    what: str

    def render(self, path: str) -> bytes:
        """The objects of the kustomization in folder ``path``, the same bytes each time.

        Raises IntegrityError[remote-reference], [bad-kustomization], [not-rendered],
        [render-too-large].
        """
        check_vendored(self.files, [path], self.what)
        return self.build(path, f"rendering {path} of {self.what}")

    def build(self, path: str, what: str) -> bytes:
        """As ``render``, without looking for remote references before."""
        with tempfile.TemporaryDirectory(prefix="render-", dir=self.kustomize.folder) as name:
            folder = Path(name)
            out = folder / "objects.yaml"
            words = [
                str(self.kustomize.program),
                "build",
                str(self.root / path),
                "--output",
                str(out),
            ]
            environment = clean_environment(folder, {"HTTP_PROXY": _NOWHERE} | _no_network())
            try:
                run_tool(
                    [*isolation(), *words],
                    folder=folder,
                    environment=environment,
                    timeout_s=RENDER_TIMEOUT_S,
                    what=what,
                    file_limit_bytes=MAX_OBJECTS_BYTES,
                )
            except HostError as error:
                raise self._translated(error, what) from error
            return read_file(out, MAX_OBJECTS_BYTES)

    def _translated(self, error: HostError, what: str) -> Exception:
        if error.code in ("tool-missing", "tool-timeout"):
            return error
        text = "\n".join(error.problems)
        if error.code == "tool-output" or "file too large" in text or "SIGXFSZ" in text:
            return IntegrityError(
                "render-too-large", f"{what}: the objects are more than {MAX_OBJECTS_BYTES} bytes"
            )
        # warnings about old fields come first; the tree lies in a folder nobody knows
        lines = [line for line in error.problems if not line.startswith("# Warning")]
        shown = [line.replace(f"{self.root}/", "").replace(str(self.root), ".") for line in lines]
        return IntegrityError(
            "not-rendered", f"{what}: kustomize cannot do it", problems=shown[-5:]
        )


@contextmanager
def open_kustomize(
    archive: Path, expected: Digest, built_for: Platform, work: Path
) -> Iterator[Kustomize]:
    """kustomize out of exactly this release archive, ready to run.

    ``work`` must not be mounted noexec. Raises HostError[wrong-platform],
    IntegrityError[digest-mismatch], [bad-kustomize].
    """
    here = this_platform()
    if not here.serves(built_for):
        raise HostError(
            "wrong-platform",
            "kustomizations must be rendered, and the kustomize that is carried cannot run here",
            context={"this machine": here, "kustomize is for": built_for},
            hint=f"run perimeter-bundle on a {built_for} machine",
        )
    data = read_file(archive, MAX_ARCHIVE_BYTES)
    if Digest.of_bytes(data) != expected:
        raise IntegrityError(
            "digest-mismatch",
            "refused to run a kustomize that is not the locked one",
            context={"expected": expected, "got": Digest.of_bytes(data)},
        )
    with tempfile.TemporaryDirectory(prefix="kustomize-", dir=work) as name:
        program = Path(name) / PROGRAM
        program.write_bytes(_program(data))
        program.chmod(0o700)
        yield Kustomize(program, Path(name))


def render_folder(program: Path, folder: Path, work: Path) -> bytes:
    """The objects of a kustomization where it lies, by a kustomize of the user's own.

    Nothing can be fetched meanwhile. Raises what ``RenderTree.render`` raises.
    """
    tree = RenderTree(Kustomize(program.resolve(), work), {}, folder.resolve(), str(folder))
    return tree.build(".", f"rendering kustomization {folder}")


@lru_cache(maxsize=1)
def isolation() -> tuple[str, ...]:
    """Words before a command that leave it without a network; none where that is not allowed."""
    unshare = shutil.which("unshare", path="/usr/bin:/bin")
    if unshare is None:
        return ()
    words: Sequence[str] = ("--net",) if os.geteuid() == 0 else ("--map-root-user", "--net")
    prefix = (unshare, *words, "--")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            run_tool(
                [*prefix, "/bin/true"],
                folder=folder,
                environment=clean_environment(folder),
                timeout_s=10,
                what="a network of its own",
            )
        except HostError:
            return ()
    return prefix


def _no_network() -> dict[str, str]:
    return {
        "PATH": "/nonexistent",
        **dict.fromkeys(("HTTPS_PROXY", "http_proxy", "https_proxy"), _NOWHERE),
    }


def _program(data: bytes) -> bytes:
    problem = f"it holds no plain file called {PROGRAM}"
    try:
        with (
            gzip.GzipFile(fileobj=io.BytesIO(data)) as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            for member in archive:
                if member.name.removeprefix("./") == PROGRAM and member.type == tarfile.REGTYPE:
                    if member.size > MAX_PROGRAM_BYTES:
                        problem = f"{PROGRAM} in it is larger than any honest one"
                        break
                    reader = archive.extractfile(member)
                    if reader is not None:
                        return reader.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        problem = f"not a .tar.gz: {str(error)[:200]}"
    raise IntegrityError("bad-kustomize", f"kustomize's archive cannot be used: {problem}")
