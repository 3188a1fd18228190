"""What may stand in a ``go`` recipe: texts that become arguments of the go command. Pure checks.

The go command splits ``-ldflags`` itself and hands parts to a linker that can run programs; so
only flags from a closed list pass, and only values that no reader could take apart.
https://pkg.go.dev/cmd/link
"""

from __future__ import annotations

import re

# https://go.dev/ref/mod#go-mod-file-ident
_MODULE = re.compile(r"[a-z0-9][a-z0-9.-]*\.[a-z]{2,}(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_VERSION = re.compile(
    r"v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+incompatible)?"
)
_PACKAGE = re.compile(r"\.(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_STAMP = re.compile(r"-X [A-Za-z0-9._~/-]+\.[A-Za-z_][A-Za-z0-9_]*=[A-Za-z0-9._:/+@,~=-]*")
_PATH_PART = re.compile(r"[A-Za-z0-9_.+@-]+")


def go_module(text: str) -> str:
    """A module path such as github.com/minio/minio."""
    if not _MODULE.fullmatch(text) or text.endswith((".", "/")):
        raise ValueError("must be a module path, such as github.com/minio/minio")
    return text


def go_version(text: str) -> str:
    """A module version; never ``latest`` or a branch."""
    if not _VERSION.fullmatch(text):
        raise ValueError("must be a module version, such as v1.2.3 or v0.0.0-20260212201848-…")
    return text


def go_package(text: str) -> str:
    """A package inside its module."""
    if not _PACKAGE.fullmatch(text) or any(part == ".." for part in text.split("/")):
        raise ValueError('must be "." or a folder inside the module, such as ./cmd/tool')
    return text


def go_ldflag(text: str) -> str:
    """One flag of the linker."""
    if text not in ("-s", "-w") and not _STAMP.fullmatch(text):
        raise ValueError(
            'must be -s, -w or "-X package.Name=value", the value without blanks and quotes'
        )
    return text


def path_in_image(text: str) -> str:
    """An absolute path of a file in an image."""
    parts = text.split("/")
    if parts[0] != "" or len(parts) < 2 or len(text) > 200:
        raise ValueError("must be an absolute path, such as /usr/bin/minio")
    if any(part in (".", "..") or not _PATH_PART.fullmatch(part) for part in parts[1:]):
        raise ValueError("must be a plain absolute path: no .., no blanks, nothing empty in it")
    return text
