"""images.lock: every name of a release resolved to the bytes it stands for.

Written by ``perimeter-bundle lock``, read by people and by ``build``. TOML, one array of tables
per kind, sorted, without a clock: the same upstream gives the same bytes. An entry without a
digest is *unresolved*: it may stand in a lock that was written without a network, and ``build``
refuses it. The format is described in docs/formats/images-lock.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.locked_dependency import (
    LockedDependency,
    dependency_pairs,
    read_dependency,
)
from perimeter_bundle.model.locked_package import LockedPackage, package_pairs, read_package
from perimeter_bundle.model.locked_site import LockedSite, read_locked_site
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reader import Reader, repeated
from perimeter_bundle.model.reference import INTERNAL_HOST, ImageReference
from perimeter_bundle.model.toml_writer import TomlValue, toml_table

LOCK_FORMAT = "perimeter-lock/1"
GIT_SCHEME = "git+"  # before the address of a repository that a chart is packed from
WORKLOADS = "workloads"  # in place of a component: what workloads.yaml asks for
# addresses of what is made here: a module's archive below any proxy, and what explains an image
GO_MODULE_SCHEME = "go-module://"
GO_BUILD_SCHEME = "go-build://"
MAX_LOCK_BYTES = 16 * 1024 * 1024
HEADER = (
    "# Pins of one release. Written by perimeter-bundle lock; review the difference, do not edit.\n"
)
UNRESOLVED_NOTE = """\
# Entries without a digest and images without manifests are unresolved: only a connected machine can
# resolve them, by perimeter-bundle lock, and build refuses them until then.
"""


class FileKind(Enum):
    """What a downloaded file is used for."""

    FILE = "file"  # a program or archive that is put on a node
    MANIFEST = "manifest"  # Kubernetes objects that are applied


class ImageOrigin(Enum):
    """Where the bytes of an image came from; never a path of the machine that had them."""

    REGISTRY = "registry"
    OCI_LAYOUT = "oci-layout"
    DOCKER_ARCHIVE = "docker-archive"
    DOCKER_ENGINE = "docker-engine"
    GO_BUILD = "go-build"  # compiled on the connected machine


@dataclass(frozen=True, slots=True)
class GoBuild:
    """What an image that is compiled on the connected machine was made from.

    ``recipe`` is the digest of everything that was asked for, the toolchain (``go1.26.8``) and the
    base, pinned by digest, included; an image on nothing has no base.
    """

    recipe: Digest
    toolchain: str
    base: ImageReference | None = None


@dataclass(frozen=True, slots=True)
class LockedImage:
    """An image pinned to what its tag resolved to (an index or a single manifest).

    ``manifests`` maps each platform that is collected to the digest of its own manifest; when the
    tag names a single manifest, that is ``digest`` itself. ``size_bytes`` is what the bundle grows
    by if nothing else is in it: manifests, configurations and layers of the platforms collected.
    ``found_at`` is the alternate it was found at when its own registry no longer had it; ``built``
    is there for an image that no registry serves: it is compiled.
    """

    reference: ImageReference
    digest: Digest | None
    media_type: str
    manifests: Mapping[Platform, Digest]
    size_bytes: int
    components: tuple[str, ...]  # WORKLOADS stands for the site's own workloads.yaml
    why: tuple[str, ...]
    origin: ImageOrigin = ImageOrigin.REGISTRY
    found_at: ImageReference | None = None
    built: GoBuild | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", tuple(sorted(self.components)))
        object.__setattr__(self, "why", tuple(sorted(self.why)))

    @property
    def place(self) -> ImageReference:
        """Where its bytes are fetched; its name at the site is always ``reference``."""
        return self.found_at or self.reference

    @property
    def is_open(self) -> bool:
        """Whether nobody looked it up yet; a digest in the name tells no platforms."""
        is_named_by_it = self.digest == self.reference.digest
        return self.digest is None or (is_named_by_it and not self.manifests)


@dataclass(frozen=True, slots=True)
class LockedChart:
    """A Helm chart archive (.tgz) pinned by its SHA-256.

    ``digest`` is of the archive that is carried. It was packed here when the chart is one of git,
    or when charts that it needs had to be put into it: then ``upstream`` is what lies at ``url``.
    """

    name: str
    version: str
    component: str
    source: str  # as the catalog names it: https://…, oci://…, git+https://…@COMMIT#FOLDER
    url: str  # where the archive itself is; the same as ``source`` for git
    digest: Digest | None
    size_bytes: int
    upstream: Digest | None = None
    dependencies: tuple[LockedDependency, ...] = ()

    def __post_init__(self) -> None:
        ordered = sorted(self.dependencies, key=lambda one: (one.place, one.asked, one.repository))
        object.__setattr__(self, "dependencies", tuple(ordered))

    @property
    def is_packed_here(self) -> bool:
        """Whether no server has the archive that is carried."""
        return self.source.startswith(GIT_SCHEME) or bool(self.dependencies)

    @property
    def reference(self) -> ImageReference:
        """The name under which a bundle and a site's registry hold it."""
        return ImageReference(INTERNAL_HOST, f"charts/{self.name}", oci_tag(self.version))


@dataclass(frozen=True, slots=True)
class LockedFile:
    """A file pinned by its SHA-256."""

    name: str
    version: str
    component: str
    kind: FileKind
    platform: Platform | None  # None: the same on every platform
    url: str
    digest: Digest | None
    size_bytes: int

    @property
    def reference(self) -> ImageReference:
        """The name under which a bundle and a site's registry hold it."""
        suffix = f"-{self.platform.architecture}" if self.platform else ""
        folder = "files" if self.kind is FileKind.FILE else "manifests"
        return ImageReference(
            INTERNAL_HOST, f"{folder}/{self.component}/{self.name}", oci_tag(self.version) + suffix
        )


@dataclass(frozen=True, slots=True)
class LockedSource:
    """A tree of files from git, pinned by its commit and by the archive that is carried.

    ``remote`` says what each remote reference in it stood for when it was put into the tree:
    ``reference commit`` or ``reference sha256:…``.
    """

    name: str
    version: str  # the tag
    url: str  # of the repository, as the catalog names it
    commit: str
    digest: Digest | None  # of the archive that format/source_tree.py packs
    size_bytes: int
    remote: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "remote", tuple(sorted(self.remote)))

    @property
    def reference(self) -> ImageReference:
        """The name under which a bundle and a site's registry hold it."""
        return ImageReference(INTERNAL_HOST, f"sources/{self.name}", oci_tag(self.version))

    @property
    def pins(self) -> Mapping[str, str]:
        """Commit or digest by remote reference."""
        return {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in self.remote}


@dataclass(frozen=True, slots=True)
class Lock:
    """Every pin of a release."""

    release: str
    number: int  # of the release; never goes back at a site
    platforms: tuple[Platform, ...]
    images: tuple[LockedImage, ...]
    charts: tuple[LockedChart, ...]
    files: tuple[LockedFile, ...]
    site: LockedSite | None = None  # there when it was written with the facts of one site
    packages: tuple[LockedPackage, ...] = ()
    sources: tuple[LockedSource, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "platforms", tuple(sorted(self.platforms)))
        object.__setattr__(self, "images", tuple(_by_name(self.images)))
        object.__setattr__(self, "charts", tuple(_by_name(self.charts)))
        object.__setattr__(self, "files", tuple(_by_name(self.files)))
        packages = sorted(self.packages, key=lambda one: (one.name, one.version, one.filename))
        object.__setattr__(self, "packages", tuple(packages))
        object.__setattr__(self, "sources", tuple(_by_name(self.sources)))

    def unresolved(self) -> tuple[str, ...]:
        """Names of the entries that have no digest yet, sorted."""
        names = [str(image.reference) for image in self.images if image.is_open]
        names += [str(chart.reference) for chart in self.charts if chart.digest is None]
        names += [str(file.reference) for file in self.files if file.digest is None]
        names += [package.label for package in self.packages if package.digest is None]
        names += [str(one.reference) for one in self.sources if one.digest is None]
        return tuple(sorted(names))

    def to_bytes(self) -> bytes:
        """The lock as TOML: sorted, no clock, the same value always the same bytes."""
        top = toml_table(
            "",
            {
                "format": LOCK_FORMAT,
                "release": self.release,
                "number": self.number,
                "platforms": [str(platform) for platform in self.platforms],
            },
        )
        tables = [toml_table("[[image]]", _image_pairs(image)) for image in self.images]
        tables += [table for chart in self.charts for table in _chart_tables(chart)]
        tables += [toml_table("[[file]]", _file_pairs(file)) for file in self.files]
        tables += self.site.to_tables() if self.site else []
        tables += [toml_table("[[package]]", package_pairs(one)) for one in self.packages]
        tables += [toml_table("[[source]]", _source_pairs(one)) for one in self.sources]
        note = UNRESOLVED_NOTE if self.unresolved() else ""
        return "\n".join([HEADER + note + top, *tables]).encode()

    @classmethod
    def parse(cls, data: bytes) -> Lock:
        """The lock in ``data``; raises InputError[bad-lock] with every problem found."""
        if len(data) > MAX_LOCK_BYTES:
            raise InputError("bad-lock", f"a lock of {len(data)} bytes is over {MAX_LOCK_BYTES}")
        try:
            document = tomllib.loads(data.decode("utf-8"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError("bad-lock", f"not a lock: {error}") from error
        reader = Reader()
        if document.get("format") != LOCK_FORMAT:
            raise InputError(
                "bad-lock",
                f"unknown lock format {document.get('format')!r}",
                context={"expected": LOCK_FORMAT},
                hint="write it again with perimeter-bundle lock",
            )
        known = {"format", "release", "number", "platforms", "image", "chart", "file"}
        known |= {"source", "site", "site_component", "package"}
        reader.problems += [f"unknown key {key!r}" for key in sorted(set(document) - known)]
        lock = cls(
            release=reader.text(document, "release", "lock"),
            number=reader.count(document, "number", "lock"),
            platforms=tuple(reader.each(document, "platforms", "lock", Platform.parse)),
            images=tuple(reader.tables(document, "image", _read_image)),
            charts=tuple(reader.tables(document, "chart", _read_chart)),
            files=tuple(reader.tables(document, "file", _read_file)),
            site=read_locked_site(reader, document),
            packages=tuple(reader.tables(document, "package", read_package)),
            sources=tuple(reader.tables(document, "source", _read_source)),
        )
        reader.problems += _contradictions(lock)
        if reader.problems:
            raise InputError(
                "bad-lock",
                "the lock cannot be used",
                problems=reader.problems,
                hint="write it again with perimeter-bundle lock",
            )
        return lock


def _contradictions(lock: Lock) -> list[str]:
    entries: tuple[_Named, ...] = (*lock.images, *lock.charts, *lock.files, *lock.sources)
    names = repeated(str(entry.reference) for entry in entries)
    problems = [f"{name} stands there twice" for name in names]
    problems += [
        f"[[package]] {label} stands there twice"
        for label in repeated(package.label for package in lock.packages)
    ]
    if not lock.platforms:
        problems.append("lock: platforms names none")
    if lock.site:
        names = repeated(component.name for component in lock.site.components)
        problems += [f"[[site_component]] {name} stands there twice" for name in names]
        missing = lock.site.images - {image.reference for image in lock.images}
        problems += [f"[[site_component]]: no [[image]] {image}" for image in sorted(missing)]
        missing = lock.site.packages - {file.reference for file in lock.files}
        problems += [f"[[site_component]]: no [[file]] {file}" for file in sorted(missing)]
    for image in lock.images:
        where = f"[[image]] {image.reference}"
        if not image.manifests and not image.is_open:
            problems.append(f"{where}: it has a digest but no manifests")
        if image.found_at == image.reference:
            problems.append(f"{where}: found_at is the image itself")
        if (image.origin is ImageOrigin.GO_BUILD) != (image.built is not None):
            problems.append(f"{where}: recipe, toolchain and base belong to origin go-build")
        if image.built and image.found_at:
            problems.append(f"{where}: it was built, so it was found nowhere")
        if image.built and image.built.base and image.built.base.digest is None:
            problems.append(f"{where}: its base has no digest")
    for chart in lock.charts:
        where = f"[[chart]] {chart.name}"
        twice = repeated(" ".join(one.key) for one in chart.dependencies)
        problems += [f"{where}: dependency {key} stands there twice" for key in twice]
        is_git = chart.source.startswith(GIT_SCHEME)
        if (chart.upstream is not None) != (bool(chart.dependencies) and not is_git):
            problems.append(f"{where}: upstream belongs to a chart of a repository that got others")
        if chart.dependencies and chart.digest is None:
            problems.append(f"{where}: it has dependencies but no digest")
    for source in lock.sources:
        twice = repeated(line.rpartition(" ")[0] for line in source.remote)
        problems += [f"[[source]] {source.name}: {name} stands there twice" for name in twice]
    return problems


def oci_tag(version: str) -> str:
    """``version`` as an OCI tag; ``+`` is not allowed there and becomes ``_``, as Helm does."""
    return version.replace("+", "_")


class _Named(Protocol):
    """What every kind of entry has."""

    @property
    def reference(self) -> ImageReference: ...


Entry = TypeVar("Entry", bound=_Named)


def _by_name(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: str(entry.reference))


def _image_pairs(image: LockedImage) -> dict[str, TomlValue]:
    pairs: dict[str, TomlValue] = {
        "reference": str(image.reference),
        "digest": str(image.digest or ""),
        "media_type": image.media_type,
        "manifests": [
            f"{platform} {image.manifests[platform]}" for platform in sorted(image.manifests)
        ],
        "size_bytes": image.size_bytes,
        "components": image.components,
        "why": image.why,
        **({} if image.origin is ImageOrigin.REGISTRY else {"origin": image.origin.value}),
    }
    # keys of few images; a lock without such images reads as it always did
    if image.found_at:
        pairs["found_at"] = str(image.found_at)
    if image.built:
        pairs["recipe"] = str(image.built.recipe)
        pairs["toolchain"] = image.built.toolchain
        pairs["base"] = str(image.built.base or "")
    return pairs


def _chart_tables(chart: LockedChart) -> list[str]:
    pairs: dict[str, TomlValue] = {
        "name": chart.name,
        "version": chart.version,
        "component": chart.component,
        "source": chart.source,
        "url": chart.url,
        "digest": str(chart.digest or ""),
        "size_bytes": chart.size_bytes,
        **({"upstream": str(chart.upstream)} if chart.upstream else {}),
    }
    below = [toml_table("[[chart.dependency]]", dependency_pairs(d)) for d in chart.dependencies]
    return [toml_table("[[chart]]", pairs), *below]


def _file_pairs(file: LockedFile) -> dict[str, TomlValue]:
    return {
        "name": file.name,
        "version": file.version,
        "component": file.component,
        "kind": file.kind.value,
        "platform": str(file.platform or ""),
        "url": file.url,
        "digest": str(file.digest or ""),
        "size_bytes": file.size_bytes,
    }


def _source_pairs(source: LockedSource) -> dict[str, TomlValue]:
    return {
        "name": source.name,
        "version": source.version,
        "url": source.url,
        "commit": source.commit,
        "digest": str(source.digest or ""),
        "size_bytes": source.size_bytes,
        "remote": source.remote,
    }


def _read_image(reader: Reader, table: Mapping[str, object], where: str) -> LockedImage:
    reader.only(table, where, tuple(_IMAGE_KEYS))
    manifests: dict[Platform, Digest] = {}
    for platform, digest in reader.each(table, "manifests", where, _platform_and_digest):
        if platform in manifests:
            reader.problems.append(f"{where}: platform {platform} stands there twice")
        manifests[platform] = digest
    return LockedImage(
        reference=reader.value(table, "reference", where, ImageReference.parse, _NO_REFERENCE),
        digest=reader.digest(table, where),
        media_type=reader.text(table, "media_type", where, empty=True),
        manifests=manifests,
        size_bytes=reader.count(table, "size_bytes", where),
        components=tuple(reader.each(table, "components", where, str)),
        why=tuple(reader.each(table, "why", where, str)),
        origin=(
            reader.value(table, "origin", where, ImageOrigin, ImageOrigin.REGISTRY)
            if "origin" in table
            else ImageOrigin.REGISTRY
        ),
        found_at=(
            reader.value(table, "found_at", where, ImageReference.parse, None)
            if "found_at" in table
            else None
        ),
        built=_read_go_build(reader, table, where),
    )


def _read_go_build(reader: Reader, table: Mapping[str, object], where: str) -> GoBuild | None:
    if not set(_GO_BUILD_KEYS).intersection(table):
        return None
    nothing = Digest.of_bytes(b"")
    return GoBuild(
        recipe=reader.value(table, "recipe", where, Digest.parse, nothing),
        toolchain=reader.value(table, "toolchain", where, _toolchain, ""),
        base=(
            reader.value(table, "base", where, ImageReference.parse, None)
            if table.get("base") != ""
            else None
        ),
    )


def _read_chart(reader: Reader, table: Mapping[str, object], where: str) -> LockedChart:
    reader.only(table, where, tuple(_CHART_KEYS))
    return LockedChart(
        name=reader.value(table, "name", where, _name, "x"),
        version=reader.value(table, "version", where, _version, "0"),
        component=reader.value(table, "component", where, _name, "x"),
        source=reader.text(table, "source", where),
        url=reader.text(table, "url", where, empty=True),
        digest=reader.digest(table, where),
        size_bytes=reader.count(table, "size_bytes", where),
        upstream=(
            reader.value(table, "upstream", where, Digest.parse, None)
            if "upstream" in table
            else None
        ),
        dependencies=tuple(reader.tables(table, "dependency", read_dependency)),
    )


def _read_file(reader: Reader, table: Mapping[str, object], where: str) -> LockedFile:
    reader.only(table, where, tuple(_FILE_KEYS))
    has_platform = bool(table.get("platform"))
    return LockedFile(
        name=reader.value(table, "name", where, _name, "x"),
        version=reader.value(table, "version", where, _version, "0"),
        component=reader.value(table, "component", where, _name, "x"),
        kind=reader.value(table, "kind", where, FileKind, FileKind.FILE),
        platform=(
            reader.value(table, "platform", where, Platform.parse, None) if has_platform else None
        ),
        url=reader.text(table, "url", where),
        digest=reader.digest(table, where),
        size_bytes=reader.count(table, "size_bytes", where),
    )


def _read_source(reader: Reader, table: Mapping[str, object], where: str) -> LockedSource:
    reader.only(table, where, tuple(_SOURCE_KEYS))
    return LockedSource(
        name=reader.value(table, "name", where, _name, "x"),
        version=reader.value(table, "version", where, _version, "0"),
        url=reader.text(table, "url", where),
        commit=reader.value(table, "commit", where, _commit, ""),
        digest=reader.digest(table, where),
        size_bytes=reader.count(table, "size_bytes", where),
        remote=tuple(reader.each(table, "remote", where, _remote)),
    )


_GO_BUILD_KEYS = ("recipe", "toolchain", "base")
_IMAGE_KEYS = (
    *("reference", "digest", "media_type", "manifests", "size_bytes", "components", "why"),
    *("origin", "found_at", *_GO_BUILD_KEYS),
)
_CHART_KEYS = (
    *("name", "version", "component", "source", "url", "digest", "size_bytes"),
    *("upstream", "dependency"),
)
_FILE_KEYS = ("name", "version", "component", "kind", "platform", "url", "digest", "size_bytes")
_TOOLCHAIN = re.compile(r"go[0-9]+\.[0-9]+(?:\.[0-9]+)?")
_SOURCE_KEYS = ("name", "version", "url", "commit", "digest", "size_bytes", "remote")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NO_REFERENCE = ImageReference("invalid.invalid", "x", "x")


def _platform_and_digest(text: str) -> tuple[Platform, Digest]:
    platform, _, digest = text.partition(" ")
    return Platform.parse(platform), Digest.parse(digest)


def _commit(text: str) -> str:
    if not _COMMIT.fullmatch(text):
        raise ValueError(f"{text[:100]!r} is not a whole commit id")
    return text


def _remote(text: str) -> str:
    reference, _, pin = text.rpartition(" ")
    if not reference or " " in reference:
        raise ValueError(f"{text[:300]!r} is not a reference and what it stands for")
    if not _COMMIT.fullmatch(pin):
        Digest.parse(pin)
    return text


def _name(text: str) -> str:
    """A name that is safe as a path component and as part of an OCI repository name."""
    ImageReference.parse(f"{INTERNAL_HOST}/{text}:x")
    if "/" in text:
        raise InputError("bad-name", f"{text!r} is not one path component")
    return text


def _toolchain(text: str) -> str:
    if not _TOOLCHAIN.fullmatch(text):
        raise InputError("bad-toolchain", f"{text!r} is no version of Go")
    return text


def _version(text: str) -> str:
    ImageReference.parse(f"{INTERNAL_HOST}/x:{oci_tag(text)}")
    return text
