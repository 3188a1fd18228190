"""Opens a bundle. What must hold, in this order:

 1. The trust folder holds keys, and its thresholds can be met.
 2. SHA256SUMS is there and strictly written: sorted, each path once, nothing that climbs out.
 3. Its exact bytes are signed by enough distinct trusted keys of each role. signatures/ holds
    nothing but signatures, and none that bears a trusted key's name is bad.
 4. Exactly the listed files are there: none missing, none added, plain files only; what the folder
    lacks may lie in volumes of this very bundle (format/volumes/read.py says what must hold).
 5. Every file has its listed digest. With BlobBytes.LATER those below blobs/ are left to whoever
    uses them; they are there, with the size their manifest names (4 and 9).
 6. Every blob's name is the digest of its bytes.
 7. oci-layout, index.json, bundle.json and images.lock parse, in a format that is known here, and
    this installer is not too old for them.
 8. They agree: release, number, and each locked name with its digest; nothing unresolved, nothing
    that is not locked.
 9. Everything reachable from index.json is there with its size; what is locked for a platform was
    built for it. Members of an index that were not collected may be absent, and so may be layers
    and files of nodes that base.json of a delta names with their size.
10. The release number is not below the lowest that the site accepts.

The caller's part: that the trust folder came by another way than the bundle; which release is
installed (``trust.not_before``); that nobody writes to the bundle while it is used – what is
copied out of it is hashed again while it streams; that the site's registry holds what a delta
leaves out. With BlobBytes.LATER: no blob is used before its bytes are checked, by
``VerifiedBundle.read`` or ``check_blobs``, or by a registry, which takes an upload only under the
digest of its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from perimeter_bundle import __version__
from perimeter_bundle.format import layout
from perimeter_bundle.format.agreement import (
    blob_name_problems,
    closure_problems,
    content_problems,
    lock_problems,
)
from perimeter_bundle.format.base import MAX_BASE_BYTES, Base, base_problems
from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.files import read_file
from perimeter_bundle.format.manifest import MAX_MANIFEST_BYTES, BundleManifest
from perimeter_bundle.format.oci import MAX_INDEX_BYTES, OciIndex
from perimeter_bundle.format.signers import check_signers
from perimeter_bundle.format.strict_json import parse_object
from perimeter_bundle.format.sums import MAX_SUMS_BYTES, Sums, some
from perimeter_bundle.format.trust import Role, Trust, TrustedKey
from perimeter_bundle.format.volumes.held import Held, hold
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError, PerimeterError, TrustError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_bundle.model.lock import MAX_LOCK_BYTES, Lock
from perimeter_bundle.terminal.text import human_bytes

_MAKER = object()  # only open_bundle has it


class BlobBytes(Enum):
    """When the bytes of blobs are hashed; everything else always is when a bundle is opened."""

    NOW = "now"
    LATER = "later"  # each before it is used: a large bundle is read once, not at every command


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """A bundle of which everything above held when it was opened. Only open_bundle makes one.

    Where ``blobs`` is LATER, ``blob`` and ``extents`` tell where bytes lie that nobody has checked.
    """

    root: Path
    manifest: BundleManifest
    lock: Lock
    index: OciIndex
    identity: Digest  # of SHA256SUMS; names this very bundle
    signers: tuple[TrustedKey, ...]
    sums: Sums
    held: Held  # where its bytes lie
    blobs: BlobBytes
    maker: object = field(repr=False, compare=False)
    base: Base | None = None  # what a delta leaves out

    def __post_init__(self) -> None:
        if self.maker is not _MAKER:
            raise TypeError("only open_bundle() makes a VerifiedBundle")

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of every listed file by its path."""
        return self.held.sizes

    def blob(self, digest: Digest) -> Path:
        """The file a blob is; raises InputError[not-in-bundle], or [not-unpacked] in volumes."""
        return self.path(layout.blob_path(digest))

    def extents(self, digest: Digest) -> tuple[Extent, ...]:
        """Where a blob's bytes lie, in order; raises InputError[not-in-bundle]."""
        return self.held.extents(self._listed(layout.blob_path(digest)))

    def path(self, name: str) -> Path:
        """A listed file, or a folder that holds one.

        Raises InputError[not-in-bundle], or [not-unpacked] for a file that lies in volumes.
        """
        return self.held.path(self._listed(name))

    def _listed(self, name: str) -> str:
        if name not in self.sums.digests and not any(self.files_below(name)):
            raise InputError(
                "not-in-bundle", f"{name} is not in this bundle", context={"bundle": self.root}
            )
        return name

    def files_below(self, folder: str) -> Iterator[str]:
        """Path of each listed file in ``folder`` and below, sorted."""
        return (path for path in self.sums.digests if path.startswith(f"{folder}/"))

    def read(self, name: str) -> bytes:
        """The bytes of a listed file, hashed again.

        Raises InputError[not-in-bundle], or IntegrityError[digest-mismatch] when it is not what was
        signed: a blob not checked before, or a file changed since.
        """
        return _read_listed(self.held, self._listed(name), self.sums, self.sizes.get(name, 0))

    def check_blobs(self, digests: Iterable[Digest], on_event: OnEvent = ignore_events) -> None:
        """Hashes these blobs unless opening the bundle did: for programs that read them by path.

        Raises InputError[not-in-bundle] or [not-unpacked], IntegrityError[digest-mismatch].
        """
        names = sorted({layout.blob_path(digest) for digest in digests})
        for name in names:
            self.path(name)
        if self.blobs is BlobBytes.NOW:
            return
        wanted = Sums({name: self.sums.digests[name] for name in names})
        self.held.check(wanted, on_event=on_event)


@dataclass(frozen=True, slots=True)
class StepResult:
    """One numbered step: what must hold, and whether it did."""

    number: int
    title: str
    passed: bool | None  # None: not reached
    detail: str = ""
    error: PerimeterError | None = None

    def to_text(self) -> str:
        """The step on one line."""
        word = {True: "ok", False: "FAILED", None: "not reached"}[self.passed]
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.number:2}. {word}  {self.title}{detail}"

    def to_dict(self) -> dict[str, object]:
        """The step as ``--json`` prints it."""
        return {
            "number": self.number,
            "title": self.title,
            "passed": self.passed,
            "detail": self.detail,
            "error": self.error.to_dict() if self.error else None,
        }


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Every step, and the bundle when all of them held."""

    steps: tuple[StepResult, ...]
    bundle: VerifiedBundle | None

    @property
    def error(self) -> PerimeterError | None:
        """What the first step that failed raised."""
        return next((step.error for step in self.steps if step.error), None)

    def to_text(self) -> str:
        """A line for each step."""
        return "\n".join(step.to_text() for step in self.steps)

    def to_dict(self) -> dict[str, object]:
        """The report as ``--json`` prints it."""
        bundle = self.bundle
        return {
            "verified": bundle is not None,
            "release": bundle.manifest.release if bundle else None,
            "number": bundle.manifest.number if bundle else None,
            "identity": str(bundle.identity) if bundle else None,
            "signers": [key.name for key in bundle.signers] if bundle else [],
            "steps": [step.to_dict() for step in self.steps],
            "error": self.error.to_dict() if self.error else None,
        }


def open_bundle(
    root: Path,
    trust: Trust,
    *,
    volumes: Sequence[Path] = (),
    allow_older: bool = False,
    blobs: BlobBytes = BlobBytes.NOW,
    installer_version: str = __version__,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
) -> VerifiedBundle:
    """The bundle at ``root``, verified; the only maker of a VerifiedBundle.

    ``volumes`` (files, or folders of them) hold what the folder lacks.

    Raises IntegrityError or TrustError at the first step that does not hold; everything that step
    finds is in it. ``allow_older`` lets step 10 pass with a warning.
    """
    opening = _Opening(
        root, trust, volumes, allow_older, installer_version, on_event, workers, blobs
    )
    for _, _, step in _STEPS:
        step(opening)
    return opening.bundle()


def verify_report(
    root: Path,
    trust: Trust,
    *,
    volumes: Sequence[Path] = (),
    allow_older: bool = False,
    installer_version: str = __version__,
    on_event: OnEvent = ignore_events,
    workers: int | None = None,
) -> VerifyReport:
    """Like open_bundle, step by step for people: nothing is raised that a step found."""
    opening = _Opening(root, trust, volumes, allow_older, installer_version, on_event, workers)
    results: list[StepResult] = []
    failed = False
    for number, title, step in _STEPS:
        if failed:
            results.append(StepResult(number, title, None))
            continue
        try:
            results.append(StepResult(number, title, True, step(opening)))
        except PerimeterError as error:
            failed = True
            results.append(StepResult(number, title, False, error.message, error))
    return VerifyReport(tuple(results), None if failed else opening.bundle())


class _Opening:
    """What is known so far; each step adds what the next ones need and says what it saw."""

    def __init__(
        self,
        root: Path,
        trust: Trust,
        volumes: Sequence[Path],
        allow_older: bool,
        installer_version: str,
        on_event: OnEvent,
        workers: int | None,
        blobs: BlobBytes = BlobBytes.NOW,
    ) -> None:
        self.root = root.resolve()
        self.trust = trust
        self.volumes = volumes
        self.allow_older = allow_older
        self.installer_version = installer_version
        self.on_event = on_event
        self.workers = workers
        self.blobs = blobs
        self.sums_bytes = b""
        self.signers: tuple[TrustedKey, ...] = ()
        self.sums: Sums
        self.held: Held
        self.index: OciIndex
        self.manifest: BundleManifest
        self.lock: Lock
        self.base: Base | None = None

    def bundle(self) -> VerifiedBundle:
        return VerifiedBundle(
            root=self.root,
            manifest=self.manifest,
            lock=self.lock,
            index=self.index,
            identity=Digest.of_bytes(self.sums_bytes),
            signers=self.signers,
            sums=self.sums,
            held=self.held,
            blobs=self.blobs,
            maker=_MAKER,
            base=self.base,
        )

    def check_trust(self) -> str:  # 1
        counts = [f"{self.trust.threshold.get(role, 0)} {role.value}" for role in Role]
        return f"{len(self.trust.keys)} keys; must sign: {', '.join(counts)}"

    def read_sums(self) -> str:  # 2
        if not self.root.is_dir():
            raise InputError("no-bundle", f"{self.root} is not a folder")
        path = self.root / layout.SUMS
        if not path.exists() and not path.is_symlink():
            raise IntegrityError(
                "missing-file",
                f"{layout.SUMS} is missing",
                context={"folder": self.root},
                hint="this is not a finished bundle, or its copy is not complete",
            )
        self.sums_bytes = read_file(path, MAX_SUMS_BYTES)
        self.sums = Sums.parse(self.sums_bytes)
        return f"{len(self.sums.digests)} files listed"

    def check_signatures(self) -> str:  # 3
        found = check_signers(self.root, self.sums_bytes, self.trust)
        self.signers = found.trusted
        names = ", ".join(f"{key.name} ({key.key.key_id[:16]})" for key in found.trusted)
        unknown = f"; {len(found.unknown)} unknown keys" if found.unknown else ""
        return f"signed by {names}{unknown}"

    def check_files(self) -> str:  # 4
        self.held = hold(self.root, self.volumes, self.sums, Digest.of_bytes(self.sums_bytes))
        inside = f", {len(self.held.runs)} of them in volumes" if self.held.runs else ""
        return f"{len(self.sums.digests)} files{inside}, none missing, none added"

    def check_bytes(self) -> str:  # 5
        later = dict(self._blobs()) if self.blobs is BlobBytes.LATER else {}
        now = Sums({path: one for path, one in self.sums.digests.items() if path not in later})
        self.held.check(now, on_event=self.on_event, workers=self.workers)
        said = f"{human_bytes(sum(self.held.sizes[path] for path in now.digests))} as listed"
        left = sum(self.held.sizes[path] for path in later)
        if not later:
            return said
        left_said = f"{human_bytes(left)} of blobs are checked as they are used"
        self.on_event(Event(EventKind.NOTE, "verify", left_said))
        return f"{said}; {left_said}"

    def check_blob_names(self) -> str:  # 6
        _refuse(
            "odd-blob", "blobs do not bear the name of their bytes", blob_name_problems(self.sums)
        )
        return f"{sum(1 for _ in self._blobs())} blobs"

    def parse_documents(self) -> str:  # 7
        parse_object(self._read(layout.OCI_LAYOUT, 4096), layout.OCI_LAYOUT, max_bytes=4096)
        self.index = OciIndex.parse(self._read(layout.INDEX, MAX_INDEX_BYTES))
        self.manifest = BundleManifest.parse(self._read(layout.BUNDLE_MANIFEST, MAX_MANIFEST_BYTES))
        needed = _version(self.manifest.minimum_installer)
        if needed > _version(self.installer_version.partition(".dev")[0]):
            raise IntegrityError(
                "installer-too-old",
                f"this bundle needs perimeter {self.manifest.minimum_installer} or newer",
                context={"found": self.installer_version},
                hint=f"it brings one along: sh {self.root / layout.BOOTSTRAP_SCRIPT}",
            )
        try:
            self.lock = Lock.parse(self._read(layout.LOCK, MAX_LOCK_BYTES))
        except InputError as error:  # at a site nobody wrote it: it is part of the bundle
            raise IntegrityError("bad-lock", error.message, problems=error.problems) from error
        if layout.BASE in self.sums.digests:
            self.base = Base.parse(self._read(layout.BASE, MAX_BASE_BYTES))
        return f"release {self.manifest.release}, number {self.manifest.number}"

    def check_agreement(self) -> str:  # 8
        problems = lock_problems(self.lock, self.manifest, self.index)
        problems += content_problems(self.manifest, self.sums)
        _refuse("disagreement", "lock, bundle.json and index.json do not agree", problems)
        return f"{len(self.manifest.items)} items"

    def check_closure(self) -> str:  # 9
        sizes = {digest: self.held.sizes[path] for path, digest in self._blobs()}
        left_out = self.base.sizes if self.base else {}
        problems = closure_problems(
            self.lock, self.manifest, self.index, {**left_out, **sizes}, self._read_blob
        )
        _refuse("incomplete", "images or artifacts are not complete", problems)
        problems = base_problems(self.base, self.manifest, sizes, self._read_blob)
        _refuse("bad-base", "what the bundle leaves out does not agree with the rest", problems)
        names = f"{len(self.index.manifests)} names"
        if self.base is None:
            return f"{names}, all complete"
        count, total = len(self.base.blobs), self.base.total_bytes
        return (
            f"{names}; a delta on {self.base.about}: {count} blobs, {total} bytes must be in the"
            " site's registry already"
        )

    def check_number(self) -> str:  # 10
        number, lowest = self.manifest.number, self.trust.minimum_release
        if number >= lowest:
            return f"number {number}, at least {lowest}"
        if not self.allow_older:
            raise TrustError(
                "older-release",
                f"release {self.manifest.release} is older than this site accepts",
                context={"number": number, "lowest accepted": lowest},
                hint="going back is refused unless asked for: --allow-older",
            )
        message = f"release number {number} is below {lowest}; accepted because it was asked for"
        self.on_event(Event(EventKind.WARNING, "verify", message))
        return message

    def _blobs(self) -> Iterator[tuple[str, Digest]]:
        for path, digest in self.sums.digests.items():
            if path.startswith(f"{layout.BLOBS}/"):
                yield path, digest

    def _read(self, path: str, max_bytes: int) -> bytes:
        if path not in self.sums.digests:
            raise IntegrityError("missing-file", f"the bundle holds no {path}")
        return _read_listed(self.held, path, self.sums, max_bytes)

    def _read_blob(self, digest: Digest, max_bytes: int) -> bytes:
        return _read_listed(self.held, layout.blob_path(digest), self.sums, max_bytes)


def _read_listed(held: Held, name: str, sums: Sums, max_bytes: int) -> bytes:
    """The bytes of a file that must have its listed digest now, too."""
    data = held.read(name, max_bytes)
    found, expected = Digest.of_bytes(data), sums.digests.get(name)
    if found != expected:
        raise IntegrityError(
            "digest-mismatch",
            f"{name}: not the bytes that were signed",
            context={"expected": expected, "found": found, "size_bytes": len(data)},
            hint="the copy is damaged or was changed; carry the bundle over again",
        )
    return data


def _refuse(code: str, message: str, problems: Sequence[str]) -> None:
    if problems:
        raise IntegrityError(code, message, problems=some(problems))


def _version(text: str) -> tuple[int, ...]:
    """Numbers of a version such as 0.1.0; raises IntegrityError[bad-manifest]."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6}){0,3}", text):
        raise IntegrityError("bad-manifest", f"minimum_installer is not a version: {text[:50]!r}")
    numbers = [int(part) for part in text.split(".")]
    while numbers and numbers[-1] == 0:  # 1.0 and 1.0.0 are the same
        numbers.pop()
    return tuple(numbers)


_STEPS: tuple[tuple[int, str, Callable[[_Opening], str]], ...] = (
    (1, "keys are trusted", _Opening.check_trust),
    (2, "SHA256SUMS is strictly written", _Opening.read_sums),
    (3, "enough trusted keys signed it", _Opening.check_signatures),
    (4, "exactly the listed files are there", _Opening.check_files),
    (5, "every file has its listed digest", _Opening.check_bytes),
    (6, "every blob bears the name of its bytes", _Opening.check_blob_names),
    (7, "the documents are understood", _Opening.parse_documents),
    (8, "lock, bundle.json and index.json agree", _Opening.check_agreement),
    (9, "every image and artifact is complete", _Opening.check_closure),
    (10, "the release is not older than the site accepts", _Opening.check_number),
)
