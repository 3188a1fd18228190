"""The Go that compiles: the one the release carries, else one of this machine.

1. ``PERIMETER_GO`` names one: the user chose.
2. The release has component ``go``: its version, by its locked archive where there is one for
   this machine, else by a go of this machine that says the same version.
3. The first go of this machine that the recipe takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.catalog.built import GoRecipe
from perimeter_bundle.collect.fetch import FileFetcher
from perimeter_bundle.discover.kubeadm import this_platform
from perimeter_bundle.gobuild.toolchain import GO_VARIABLE, Toolchain, find_toolchain
from perimeter_bundle.gobuild.unpacking import unpack_toolchain
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import FileKind, LockedFile

GO = "go"  # the component that brings the archive, and the name of its file


@dataclass(frozen=True, slots=True)
class GoSource:
    """Where Go comes from in one run: the locked files, and where they are put."""

    files: Sequence[LockedFile]
    fetcher: FileFetcher
    environment: Mapping[str, str] = field(repr=False)  # the user's; may hold passwords
    work: Path
    place: Callable[[Digest], Path]  # of a fetched archive

    def version_for(self, recipe: GoRecipe) -> str:
        """The version that compiles (``go1.26.8``), nothing fetched for it.

        Raises HostError[go-missing] or [go-other-version].
        """
        carried = self._carried()
        if carried:
            return f"go{carried[0].version}"
        return find_toolchain(recipe, self.environment).version

    def toolchain(self, recipe: GoRecipe, version: str) -> Toolchain:
        """The go command of exactly this version, fetched and unpacked where it is carried.

        Raises HostError[go-missing] or [go-other-version], NetworkError,
        IntegrityError[digest-mismatch] or [bad-go].
        """
        here = this_platform()
        for file in self._carried():
            fits = file.platform is None or here.serves(file.platform)
            if fits and file.digest and version == f"go{file.version}":
                archive = self.place(file.digest)
                archive.parent.mkdir(parents=True, exist_ok=True)
                self.fetcher.fetch(file.url, archive, file.digest, task=str(file.reference))
                return unpack_toolchain(archive, file.digest, version, self.work / "toolchain")
        return find_toolchain(recipe, self.environment, exactly=version)

    def _carried(self) -> list[LockedFile]:
        if self.environment.get(GO_VARIABLE):
            return []
        return [file for file in self.files if is_go(file)]


def is_go(file: LockedFile) -> bool:
    """Whether ``file`` is Go's release archive."""
    return (file.component, file.name, file.kind) == (GO, GO, FileKind.FILE)
