"""Which images a person means: short names, globs and digests. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.reference import ImageReference

_GLOB = re.compile(r"[*?\[]")
_DIGEST = re.compile(r"(?:sha256:)?(?P<hex>[0-9a-f]{12,64})")
NEAREST = 3


def means(query: str, reference: ImageReference, digests: Iterable[Digest] = ()) -> bool:
    """Whether ``query`` is this image: its reference, the end of it, a glob, or a digest of it.

    ``proxyv2``, ``istio-release/proxyv2:1.29.0``, ``*istio*``, ``sha256:9f2c…`` (12 digits do).
    """
    digest = _DIGEST.fullmatch(query)
    if digest is not None:
        own = [reference.digest] if reference.digest else []
        if any(one.hex.startswith(digest["hex"]) for one in (*digests, *own)):
            return True
    forms = tuple(_forms(reference))
    if _GLOB.search(query):
        return any(fnmatchcase(form, query) for form in forms)
    return query in forms or _is_same(query, reference)


def nearest(query: str, references: Iterable[ImageReference]) -> tuple[str, ...]:
    """References that are written nearly so, the nearest first."""
    by_form: dict[str, str] = {}
    for reference in references:
        for form in _forms(reference):
            by_form.setdefault(form, str(reference))
    close = difflib.get_close_matches(query, by_form, n=4 * NEAREST, cutoff=0.6)
    inside = sorted(form for form in by_form if len(query) > 2 and query in form)
    return tuple(dict.fromkeys(by_form[form] for form in (*close, *inside)))[:NEAREST]


def _forms(reference: ImageReference) -> Iterable[str]:
    """Every way to write it that begins at a slash, with and without tag and digest."""
    tails = [str(reference), str(reference.without_digest()), reference.name]
    for text in dict.fromkeys(tails):
        yield text
        head, _, tail = text.partition("@")
        parts = head.split("/")
        for start in range(1, len(parts)):
            yield "/".join(parts[start:]) + (f"@{tail}" if tail else "")


def _is_same(query: str, reference: ImageReference) -> bool:
    """A reference that is complete once Docker Hub and ``latest`` are filled in."""
    try:
        return ImageReference.parse(query) == reference
    except InputError:
        return False
