"""What a string looks like, whatever stands around it.

Lexical only: hosts that are registries by their names' form, tags that look like versions. The list
of well-known registries is the one place here that names hosts.
"""

from __future__ import annotations

import re
from functools import lru_cache

from perimeter_bundle.discover.words import word_set
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.reference import ImageReference

MAX_REFERENCE_LENGTH = 400

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__|_|-+)[a-z0-9]+)*"
_HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
_REFERENCE = re.compile(
    rf"(?:(?P<host>{_HOST}(?::[0-9]{{1,5}})?)/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_SCHEMES = ("docker-pullable://", "docker://", "oci://", "containers-storage:", "docker-daemon:")

_KNOWN_REGISTRIES = word_set(
    "docker.io index.docker.io registry-1.docker.io registry.hub.docker.com quay.io gcr.io",
    "ghcr.io k8s.gcr.io registry.k8s.io nvcr.io mcr.microsoft.com public.ecr.aws",
    "docker.elastic.co icr.io container-registry.oracle.com registry.gitlab.com",
    "registry.redhat.io cgr.dev lscr.io registry.access.redhat.com",
    "registry.connect.redhat.com xpkg.upbound.io registry.opensource.zalan.do",
    "registry.developers.crunchydata.com docker.redpanda.com docker.pkg.github.com",
    "registry.suse.com registry.fedoraproject.org",
)
_REGISTRY_ENDINGS = (
    ".gcr.io",
    ".pkg.dev",
    ".azurecr.io",
    ".icr.io",
    ".ocir.io",
    ".jfrog.io",
    ".quay.io",
    ".docker.io",
    ".cr.aws",
    ".aliyuncs.com",
    ".amazonaws.com",
    ".dkr.io",
)
_REGISTRY_LABEL = re.compile(
    r"(?:^|[.-])(?:registry|docker|cr|ecr|gcr|acr|harbor|quay|images?|containers?|xpkg|oci)[.-]"
)
_VERSION_TAG = re.compile(
    r"(?:[a-zA-Z]{0,12}[._-]?)?v?\d+(?:[._-][A-Za-z0-9]+)+(?:[._-][A-Za-z0-9_]+)*"
    r"|v\d+[A-Za-z0-9._-]*"
    r"|(?:latest|stable|main|master|edge|nightly|devel|canary|release)(?:[._-][A-Za-z0-9._-]*)?"
    r"|[0-9a-f]{7,40}"
)
_SHORT_VERSION = re.compile(r"[a-z][a-z0-9._-]*:\d{1,3}")  # postgres:12; ports are longer
_PORT = re.compile(r"\d{1,5}")
_FILE = re.compile(
    r"\.(?:go|py|sh|js|ts|java|rs|c|h|cc|cpp|rb|lua|md|txt|ya?ml|json|toml|conf|cfg|ini|html?|css|"
    r"svg|png|jpe?g|gif|ico|webp|tar|t?gz|zip|iso|qcow2|img|vmdk|vhd|raw|so|sock|pem|crt|key|log)$"
)


def parse_reference(text: str) -> ImageReference | None:
    """The reference ``text`` is; None when it is none."""
    if not text or len(text) > MAX_REFERENCE_LENGTH or not _REFERENCE.fullmatch(text):
        return None
    try:
        return ImageReference.parse(text)
    except InputError:
        return None


def without_scheme(text: str) -> str:
    """The reference in ``docker://quay.io/a/b:1``; other text as it is."""
    for scheme in _SCHEMES:
        if text.startswith(scheme):
            return text[len(scheme) :]
    return text


@lru_cache(maxsize=16384)
def is_registry(host: str) -> bool:
    """Whether ``host`` is a registry by its name."""
    name = host.lower().partition(":")[0]
    if name in _KNOWN_REGISTRIES:
        return True
    if name.endswith(_REGISTRY_ENDINGS):
        return not name.endswith(".amazonaws.com") or ".ecr." in name
    return "." in name and _REGISTRY_LABEL.search(name) is not None


def is_version_tag(tag: str) -> bool:
    """Whether ``tag`` looks like a version: ``1.28``, ``v2``, ``latest``, a commit; no port."""
    return _VERSION_TAG.fullmatch(tag) is not None


@lru_cache(maxsize=65536)
def is_unmistakable(text: str) -> bool:
    """A host and a path with a tag or digest: an image wherever it stands."""
    found = _REFERENCE.fullmatch(text) if len(text) <= MAX_REFERENCE_LENGTH else None
    if found is None:
        return False
    if found["digest"]:
        return True
    host, tag = found["host"], found["tag"]
    if not host or not tag:
        return False
    if is_registry(host):
        return True
    return _is_host(host) and is_version_tag(tag) and not _FILE.search(found["path"])


@lru_cache(maxsize=65536)
def is_short(text: str) -> bool:
    """``tensorflow/tensorflow:2.5.1``: a path without a host and a version."""
    found = _REFERENCE.fullmatch(text) if len(text) <= MAX_REFERENCE_LENGTH else None
    if found is None or not found["tag"]:
        return False
    name = f"{found['host']}/{found['path']}" if found["host"] else found["path"]
    return "/" in name and is_version_tag(found["tag"]) and not _FILE.search(name)


def names_registry(text: str) -> bool:
    """A well-known registry and a path, without tag and digest: ``gcr.io/istio-release``."""
    found = _REFERENCE.fullmatch(text) if len(text) <= MAX_REFERENCE_LENGTH else None
    return found is not None and bool(found["host"]) and is_registry(found["host"])


def is_like_reference(text: str) -> bool:
    """Whether somebody must say what ``text`` is: it has the form of a reference with a tag."""
    found = _REFERENCE.fullmatch(text) if len(text) <= MAX_REFERENCE_LENGTH else None
    if found is None:
        return False
    if found["digest"] or names_registry(text):
        return True
    tag = found["tag"]
    if not tag:
        return False
    if found["host"] or "/" in found["path"]:
        return True
    return is_version_tag(tag) and "." in tag and not _PORT.fullmatch(found["path"])


def is_complete_reference(text: str) -> bool:
    """A reference that says more than a word: a path with a tag, a version, a host or a digest."""
    if is_unmistakable(text) or is_short(text):
        return True
    found = _REFERENCE.fullmatch(text) if len(text) <= MAX_REFERENCE_LENGTH else None
    if found is None:
        return False
    if found["tag"]:
        return (
            is_version_tag(found["tag"])
            or "/" in text
            or _SHORT_VERSION.fullmatch(text) is not None
        )
    return bool(found["host"]) and (_is_host(found["host"]) or is_registry(found["host"]))


def is_file_name(text: str) -> bool:
    """``logo.svg``, ``disk.qcow2``."""
    return _FILE.search(text.lower()) is not None


def _is_host(host: str) -> bool:
    name, _, port = host.partition(":")
    if name == "localhost":
        return True
    last = name.rpartition(".")[2]
    return ("." in name and last.isalpha() and len(last) >= 2) or bool(port)
