"""What a registry answers when asked for a manifest, checked before anybody believes it."""

from __future__ import annotations

from dataclasses import dataclass

from perimeter_bundle.format.oci import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_MANIFEST_BYTES,
    ImageManifest,
    OciIndex,
    parse_manifest,
)
from perimeter_bundle.format.strict_json import parse_object
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError, NetworkError
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.answer import Answer, shown_url

_KNOWN_TYPES = INDEX_TYPES | MANIFEST_TYPES
ACCEPTED_TYPES = ", ".join(sorted(_KNOWN_TYPES))
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_PAGES = frozenset({"text/html", "application/xhtml+xml"})


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest or index with the exact bytes its digest names."""

    digest: Digest
    media_type: str
    raw: bytes
    parsed: ImageManifest | OciIndex


def checked_manifest(
    raw: bytes, answer: Answer, shown: str, wanted: Digest | None
) -> FetchedManifest:
    """The manifest in ``raw``; ``shown`` names it in errors, ``wanted`` is its digest if known.

    Raises NetworkError[not-a-registry], InputError[schema-1], IntegrityError[digest-mismatch] or
    [bad-manifest].
    """
    header_type = answer.content_type
    if header_type in _PAGES:
        raise NetworkError(
            "not-a-registry",
            f"asking for {shown}: a web page came instead of a manifest",
            context={"found": header_type, "from": shown_url(answer.url)},
            hint="a proxy may want a login, or this host is not a registry",
        )
    digest = wanted or Digest.of_bytes(raw)
    refuse_other_digest(raw, digest, shown, answer)
    stated = answer.headers.get("Docker-Content-Digest", "").strip()
    if stated:
        refuse_other_digest(raw, _stated_digest(stated, shown), shown, answer)
    try:
        document = parse_object(raw, "the manifest", max_bytes=MAX_MANIFEST_BYTES)
        if header_type.startswith(_SCHEMA_1) or document.get("schemaVersion") == 1:
            raise InputError(
                "schema-1",
                f"{shown} is an image in Docker's old format (schema 1)",
                hint="nothing current can run it; use a newer tag or push it again",
            )
        parsed = parse_manifest(raw)
    except IntegrityError as error:
        raise IntegrityError(
            "bad-manifest",
            f"{shown}: {error.message}",
            problems=error.problems,
            context={"digest": digest, "from": shown_url(answer.url)},
            hint="the image is damaged upstream, or this host is not a registry",
        ) from error
    if header_type in _KNOWN_TYPES and header_type != document.get("mediaType", header_type):
        # two readers could see two images in the same bytes: CVE-2021-41190
        raise IntegrityError(
            "bad-manifest",
            f"{shown}: the registry and the manifest name different media types",
            context={"registry": header_type, "manifest": parsed.media_type},
            hint="the image is damaged upstream",
        )
    return FetchedManifest(digest, parsed.media_type, raw, parsed)


def _stated_digest(text: str, shown: str) -> Digest:
    try:
        return Digest.parse(text)
    except InputError as error:
        raise IntegrityError(
            "digest-mismatch",
            f"asking for {shown}: the registry states a digest that is none",
            context={"found": repr(text[:100])},
        ) from error


def refuse_other_digest(data: bytes, expected: Digest, shown: str, answer: Answer) -> None:
    """Raises IntegrityError[digest-mismatch] unless ``data`` is what ``expected`` names."""
    found = expected.of_same_kind(data)
    if found != expected:
        raise IntegrityError(
            "digest-mismatch",
            f"refused {shown}",
            context={"expected": expected, "found": found, "from": shown_url(answer.url)},
            hint="a proxy may be rewriting downloads, or the registry is damaged; try a mirror",
        )


def platform_of_config(config: bytes, reference: ImageReference) -> Platform:
    """What an image configuration was built for; raises IntegrityError[bad-manifest]."""
    document = parse_object(config, f"the configuration of {reference}", max_bytes=len(config))
    parts = [str(document.get(key) or "") for key in ("os", "architecture", "variant")]
    try:
        return Platform.parse("/".join(parts if parts[2] else parts[:2]))
    except InputError as error:
        raise IntegrityError(
            "bad-manifest",
            f"{reference} does not say which platform it was built for",
            context={"os": repr(parts[0])[:50], "architecture": repr(parts[1])[:50]},
            hint="the image is damaged upstream",
        ) from error
