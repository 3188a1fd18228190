"""Every tag of a repository, page by page, with bounds a lying server cannot pass.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

from perimeter_bundle.model.errors import NetworkError

PAGE_SIZE: Final = 1000
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
MAX_PAGES: Final = 1000
MAX_TAGS: Final = 200_000

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_NEXT = re.compile(r"<([^<>]{1,4096})>[^,]*;\s*rel=\"?next\"?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TagPage:
    """One answer: its body, and its Link header (empty without one)."""

    body: bytes
    link: str


def read_tags(first_url: str, fetch: Callable[[str], TagPage], attempted: str) -> frozenset[str]:
    """All tags from ``first_url`` on; what no tag can be is left out.

    Raises NetworkError[bad-answer] for rubbish, for pages that lead elsewhere or in circles, and
    for more than any honest repository has.
    """
    tags: set[str] = set()
    url, seen = first_url, {first_url}
    for _ in range(MAX_PAGES):
        page = fetch(url)
        found = _tags_of(page.body, attempted)
        grows = not found <= tags
        tags |= found
        following = _next_url(url, page.link, attempted)
        if not following:
            return frozenset(tags)
        if following in seen or not grows:
            raise _bad(attempted, "its pages lead in circles")
        if len(tags) > MAX_TAGS:
            break
        seen.add(following)
        url = following
    raise _bad(attempted, f"it has more than {MAX_TAGS} tags or {MAX_PAGES} pages")


def _tags_of(body: bytes, attempted: str) -> set[str]:
    try:
        document = json.loads(body)
        tags = document["tags"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise _bad(attempted, "the answer is not a list of tags") from error
    if tags is None:  # what some registries say for none
        return set()
    if not isinstance(tags, list):
        raise _bad(attempted, "the answer is not a list of tags")
    return {tag for tag in tags if isinstance(tag, str) and _TAG.fullmatch(tag)}


def _next_url(url: str, link: str, attempted: str) -> str:
    """Where the next page is; it must be on the same path of the same server, since a login goes
    along."""
    match = _NEXT.search(link[:8192])
    if not match:
        return ""
    try:
        following = urljoin(url, str(match[1]))
        here, there = urlsplit(url), urlsplit(following)
        same = (here.scheme, here.netloc, here.path) == (there.scheme, there.netloc, there.path)
    except ValueError:
        same = False
    if not same:
        raise _bad(attempted, "its next page is somewhere else")
    return following


def _bad(attempted: str, found: str) -> NetworkError:
    return NetworkError(
        "bad-answer",
        f"{attempted} failed",
        context={"found": found},
        hint="something else than the expected server answered",
    )
