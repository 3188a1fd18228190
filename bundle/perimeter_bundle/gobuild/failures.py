"""What the go command says when it fails → whose problem it is. Pure.

Go has no machine-readable errors here; the texts below are those of Go 1.21 to 1.26. What no
line matches is what a compiler says of a program.
"""

from __future__ import annotations

import re

from perimeter_bundle.model.errors import (
    HostError,
    InputError,
    IntegrityError,
    NetworkError,
    PerimeterError,
)

SHOWN_LINES = 12
# the first that occurs decides: a sum that is wrong is told before what follows from it
_NO_ROOM = re.compile(r"no space left on device|disk quota exceeded")
_SUM = re.compile(r"checksum mismatch|SECURITY ERROR")
_TOO_OLD = re.compile(r"requires go ?>= ?([0-9.a-z]+)|toolchain not available|invalid go version")
_NOT_PINNED = re.compile(r"missing go\.sum entry|updates to go\.(?:mod|sum) needed|go mod tidy")
_UNREACHABLE = re.compile(
    r"dial tcp|connection re(?:fused|set)|i/o timeout|no such host|x509:|tls:|"
    r"network is unreachable|TLS handshake|proxyconnect|unexpected EOF|50[0-9] |429 "
)
_ABSENT = re.compile(
    r"unknown revision|404 |410 |not found|no matching versions|does not exist|"
    r"invalid version|no such file or directory|module lookup disabled"
)


def judge(output: str, attempted: str, *, fetching: bool) -> PerimeterError:
    """The error for a go command that failed; ``fetching`` when it only had to get a module."""
    lines = [line for line in output.splitlines() if line.strip()][-SHOWN_LINES:]
    if _NO_ROOM.search(output):
        return HostError(
            "no-room",
            f"{attempted}: there is no room left",
            problems=lines,
            hint="make room and run the same command again: it goes on where it stopped",
        )
    if _SUM.search(output):
        return IntegrityError(
            "sum-mismatch",
            f"{attempted}: a module is not what its checksum promises",
            problems=lines,
            hint="somebody changed it after it was published, or a proxy changes downloads",
        )
    found = _TOO_OLD.search(output)
    if found:
        return HostError(
            "go-too-old",
            f"{attempted}: the source needs a newer Go",
            problems=lines,
            context={"needed": f"Go {found[1]}"} if found[1] else {},
            hint="name a newer Go in the recipe; perimeter lets go fetch no toolchain by itself",
        )
    if _NOT_PINNED.search(output):
        return InputError(
            "not-pinned",
            f"{attempted}: the module's own go.sum does not pin what it needs",
            problems=lines,
            hint="such a version cannot be built reproducibly; choose another",
        )
    if _UNREACHABLE.search(output):
        return NetworkError(
            "module-unreachable",
            f"{attempted}: Go could not fetch a module",
            problems=lines,
            hint="GOPROXY, GOSUMDB and the proxy variables of this machine are used",
        )
    if fetching or (_ABSENT.search(output) and "reading " in output):
        return NetworkError(
            "module-missing",
            f"{attempted}: Go finds no such module or version",
            problems=lines,
            hint="check module and version; a version that was removed may be at another GOPROXY",
        )
    return InputError(
        "does-not-compile",
        f"{attempted}: the program cannot be compiled",
        problems=lines,
        hint="check package, tags and ldflags of the recipe, and the version of Go",
    )
