"""The table of what looks like an image reference, or stands where one belongs, and is none.

The first rule that fits names itself; docs/discovery.md explains each to readers.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from perimeter_bundle.discover.shapes import is_file_name, is_registry
from perimeter_bundle.discover.words import Position

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_IMAGE_SCHEME = re.compile(r"(?:docker-pullable|docker|oci)://")
_DATA_URL = re.compile(r"data:[a-z]+/")
_BOOLEAN = re.compile(r"(?:true|false|yes|no|on|off|null|none|nil|~|\d+(?:\.\d+)?)", re.IGNORECASE)
_WORD_WITH_MEANING = re.compile(
    r"(?:auto|automatic|default|custom|latest|always|never|ifnotpresent|string|object|array|boolean|"
    r"integer|image|img|container|unknown|disabled|enabled|any|all|n/?a|changeme|placeholder|empty|"
    r"inherit|cluster|properties|docker|pod|name|tbd|todo)",
    re.IGNORECASE,
)
_ANGLE = re.compile(r"<[^<>]*>|\[[a-z _-]+\]|\.\.\.|…")
_PATH = re.compile(r"(?:/|\./|\.\./|~/|[A-Za-z]:\\)")
_MIME = re.compile(
    r"(?:application|audio|font|image|message|model|multipart|text|video)/[\w.+*-]+(?:;.*)?"
)
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-f:]+\]):\d{1,5}")
_HOST_PORT_PATH = re.compile(
    r"(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:svc|local|localdomain|internal|cluster)"
    r"(?:\.[a-z0-9-]+)*|localhost|\d+\.\d+\.\d+\.\d+):\d{1,5}(?:/[^:@]*)?"
)
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?:[/:]\d+)?")
_DIGEST_ALONE = re.compile(r"(?:sha256|sha512|sha1|md5):[0-9a-f]+")
_TIME = re.compile(r"\d{1,4}[-:]\d{2}(?:[-:T]\d{2})*.*")
_API_VERSION = re.compile(r"(?:[a-z0-9.-]+/)?v\d+(?:(?:alpha|beta)\d+)?")
_FILE_LINE = re.compile(r"[\w./-]+\.[a-z]{1,5}:\d+(?::\d+)?")
_MODULE = re.compile(r"(?:github\.com|golang\.org|gopkg\.in|go\.uber\.org|sigs\.k8s\.io)/.*")
_CLOUD_NAME = re.compile(r"(?:arn|urn|pkg|spiffe|gs|s3|hf|projects):.*")
_GLOB = re.compile(r".*\*.*")
# labels, annotations and taints of Kubernetes itself; its registries are called registry
_LABEL = re.compile(r"(?P<host>(?:[a-z0-9-]+\.)*(?:kubernetes|k8s)\.io)/[\w.-]+(?:[:=].*)?")
_PICTURE_POLICY = re.compile(r"(?:IfNotPresent|Always|Never)")


def _whole(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _begin(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.match(text) is not None


def _is_label(text: str) -> bool:
    found = _LABEL.fullmatch(text)
    return found is not None and not is_registry(found["host"])


def _other_url(text: str) -> bool:
    return _URL.match(text) is not None and _IMAGE_SCHEME.match(text) is None


# true wherever the string stands
_ALWAYS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("url", _other_url),
    ("data-url", _begin(_DATA_URL)),
    ("digest-alone", _whole(_DIGEST_ALONE)),
    ("path", _begin(_PATH)),
    ("address", _whole(_ADDRESS)),
    ("pull-policy", _whole(_PICTURE_POLICY)),
    ("media-type", _whole(_MIME)),
    ("cloud-name", _whole(_CLOUD_NAME)),
    ("glob", _whole(_GLOB)),
    ("label", _is_label),
)
# in a field that promises an image, yet holds something else
_IN_IMAGE_PLACE: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("boolean-or-number", _whole(_BOOLEAN)),
    ("word", _whole(_WORD_WITH_MEANING)),
    ("for-people", lambda text: _ANGLE.search(text) is not None),
    ("file", is_file_name),
)
# where nothing promises an image
_ELSEWHERE: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("host-and-port", _whole(_HOST_PORT)),
    ("service-address", _whole(_HOST_PORT_PATH)),
    ("api-version", _whole(_API_VERSION)),
    ("time", _whole(_TIME)),
    ("file-and-line", _whole(_FILE_LINE)),
    ("source-module", _whole(_MODULE)),
    ("for-people", lambda text: _ANGLE.search(text) is not None),
)


def not_image_rule(text: str, promise: Position) -> str:
    """The name of the rule by which ``text`` is no image; empty when none fits."""
    text = text.strip()
    for name, fits in _ALWAYS:
        if fits(text):
            return name
    if promise is Position.CONTAINER:
        return "filled-in-by-injection" if text == "auto" else ""
    for name, fits in _IN_IMAGE_PLACE if promise is Position.STRONG else _ELSEWHERE:
        if fits(text):
            return name
    return ""
