"""The host that carries the lab: its commands, its packages, and whether it will do."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .cgroups import missing_controllers
from .state import LabError

# command the lab calls -> Debian package that has it
HOST_COMMANDS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
    "mkfs.ext4": "e2fsprogs",
    "losetup": "mount",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "tar": "tar",
}
POLICY = Path("/usr/sbin/policy-rc.d")
CLEAN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


def say(text: str) -> None:
    """One line for the person who waits; results never go here."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def alive(what: str, every_s: float = 10.0) -> Iterator[None]:
    """Say every few seconds that a long step still runs, and at its end how long it took."""
    done = threading.Event()
    begin = time.monotonic()

    def tell() -> None:
        while not done.wait(every_s):
            say(f"{what} … {time.monotonic() - begin:.0f} s")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        say(f"{what}: {time.monotonic() - begin:.1f} s")


def command(
    argv: Sequence[str],
    *,
    timeout_s: float = 60.0,
    check: bool = True,
    input: str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command of the host with a clean environment and a time limit."""
    try:
        done = subprocess.run(
            list(argv),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=CLEAN_ENVIRONMENT | (env or {}),
            check=False,
        )
    except FileNotFoundError as err:
        raise LabError(f"{argv[0]} is not installed on this host") from err
    except subprocess.TimeoutExpired as err:
        raise LabError(f"{' '.join(argv)}: not done after {timeout_s:.0f} s") from err
    if check and done.returncode != 0:
        tail = (done.stderr or done.stdout).strip()[-2000:]
        raise LabError(f"{' '.join(argv)}: exit status {done.returncode}: {tail}")
    return done


def missing_packages() -> list[str]:
    """Debian packages whose commands this host lacks."""
    path = CLEAN_ENVIRONMENT["PATH"]
    return sorted({p for c, p in HOST_COMMANDS.items() if shutil.which(c, path=path) is None})


def install_host_packages() -> list[str]:
    """Install what is missing, starting no service; gives back the names of what it installed."""
    wanted = missing_packages()
    if not wanted:
        return []
    with alive(f"install {' '.join(wanted)}"), services_kept_off():
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        command(["apt-get", "update", "-qq"], timeout_s=300, env=env)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted]
        command(install, timeout_s=600, env=env)
    return wanted


@contextlib.contextmanager
def services_kept_off() -> Iterator[None]:
    """A policy-rc.d that forbids services to start; the former one comes back afterwards."""
    former = POLICY.with_name("policy-rc.d.perimeter-lab")
    if POLICY.exists() and not former.exists():
        POLICY.rename(former)
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
        if former.exists():
            former.rename(POLICY)


def check_host() -> None:
    """Refuse a host that cannot carry the lab, naming every reason at once."""
    problems = []
    if os.geteuid() != 0:
        problems.append("the lab needs root: it makes namespaces, loop mounts and control groups")
    problems += [f"control groups lack {name}" for name in missing_controllers()]
    for needed in ("/dev/loop-control", "/dev/fuse", "/dev/kmsg"):
        if not Path(needed).exists():
            problems.append(f"{needed} is missing")
    problems += [f"package {name} is not installed" for name in missing_packages()]
    if problems:
        raise LabError("this host cannot carry the lab:\n  " + "\n  ".join(problems))
