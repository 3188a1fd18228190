"""Images that are compiled from a Go module, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference

# where Go's names of processors are those of OCI, and one program runs on all of them
GO_ARCHITECTURES = frozenset({"amd64", "arm64", "ppc64le", "riscv64", "s390x"})
MAX_FILE_BYTES = 1024 * 1024  # a file put into an image stands in the catalog: a script, a table


@dataclass(frozen=True, slots=True)
class GoRecipe:
    """A program: one package of one module at one version, and how it is compiled.

    ``sum`` is the module's checksum as go.sum has it. The module's own go.mod and go.sum, which
    it covers, pin everything else.
    """

    module: str
    version: str
    sum: str
    package: str  # "." or ./folder/inside
    go: str  # 1.26.8, or 1.26.x: any patch of it
    ldflags: tuple[str, ...]
    tags: tuple[str, ...]

    def takes(self, toolchain: str) -> bool:
        """Whether this toolchain (``go1.26.8``) is the one asked for."""
        wanted = f"go{self.go}"
        if wanted.endswith(".x"):
            return toolchain.startswith(wanted.removesuffix("x"))
        return toolchain == wanted


@dataclass(frozen=True, slots=True)
class BuiltImageSpec:
    """An image made of a compiled program, a few files, and what it stands on."""

    reference: ImageReference
    why: str
    licence: str
    go: GoRecipe
    base: ImageReference | None  # None: nothing
    user: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    paths: tuple[str, ...]  # where the program lies in the image
    files: tuple[tuple[str, Path], ...]  # path in the image, and the file beside component.yaml

    @property
    def short_name(self) -> str:
        """``minio`` for quay.io/minio/minio."""
        return self.reference.repository.rpartition("/")[2]

    def file_contents(self) -> tuple[tuple[str, bytes], ...]:
        """What the files hold, by path; raises InputError[catalog-file]."""
        return tuple((path, _read(source)) for path, source in self.files)


def can_compile_for(platform: Platform) -> bool:
    """Whether a program for ``platform`` can be compiled."""
    return platform.os == "linux" and platform.architecture in GO_ARCHITECTURES


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError("catalog-file", f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError("catalog-file", f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return data


def made_files(short_name: str) -> tuple[str, str, str]:
    """Names of the files that come with a built image: source, materials, provenance."""
    return (f"{short_name}-source", f"{short_name}-sbom", f"{short_name}-provenance")
