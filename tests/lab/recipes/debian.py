"""Small roots from Debian packages: what an image needs besides its program.

The packages are only extracted, never configured, so what their scripts would have done (the links
of Debian's alternatives) is added where a root is used. A root is kept in the cache under the
digest of its packages; a newer package version is taken when the cache is emptied.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from ..host import alive, command
from ..state import cache_folder
from .toolchain import ensure_packages

SUITE = "bookworm"
NETWORK = ("conntrack", "ebtables", "ipset", "iproute2", "iptables", "kmod", "nftables")
SHELL = ("busybox-static",)
# Of no use in an image, or different on each run.
LEFT_OUT = (
    *("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/lintian/"),
    *("usr/include/", "usr/share/bug/", "usr/share/bash-completion/", "var/", "dev/", "etc/apt/"),
    *("etc/dpkg/", "etc/init.d/", "etc/resolv.conf", "etc/hostname"),
)


def root_tar(packages: tuple[str, ...]) -> Path:
    """A tar of the packages and all they depend on (5 s); filter it with `wanted`."""
    digest = hashlib.sha256(" ".join((SUITE, *packages)).encode()).hexdigest()[:16]
    target = cache_folder() / "debian" / f"{SUITE}-{digest}.tar"
    if not target.exists():
        ensure_packages(["mmdebstrap"])
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{os.getpid()}-{target.name}")
        argv = ["nice", "mmdebstrap", "--mode=root", "--variant=extract", "--format=tar"]
        argv += [f"--include={','.join(packages)}", SUITE, str(temporary)]
        mirror = os.environ.get("PERIMETER_LAB_MIRROR")
        with alive(f"Debian root of {' '.join(packages)}"):
            command([*argv, mirror] if mirror else argv, timeout_s=900)
        temporary.rename(target)
    return target


def program_of(package: str, path: str, libraries: tuple[str, ...] = ()) -> Path:
    """One program of a Debian package, without installing it; ``libraries`` are installed.

    Taken once from what this machine's apt offers, then from the cache.
    """
    target = cache_folder() / "debian" / package / Path(path).name
    if target.exists():
        return target
    ensure_packages(libraries)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        alive(f"{path} of the Debian package {package}"),
        tempfile.TemporaryDirectory(prefix=".work-", dir=target.parent) as work,
    ):
        command(["apt-get", "update", "-qq"], timeout_s=300)
        fetch = f'cd "$1" && chmod 755 . && apt-get -qq download {package}'
        command(["sh", "-c", fetch, "sh", work], timeout_s=900)
        archive = next(Path(work).glob("*.deb"))
        command(["dpkg-deb", "-x", str(archive), f"{work}/root"], timeout_s=300)
        (Path(work) / "root" / path).rename(target)
    return target


def wanted(path: str) -> bool:
    """Whether a path of a root, written without a leading slash, belongs in an image."""
    return not any(path == left.rstrip("/") or path.startswith(left) for left in LEFT_OUT)
