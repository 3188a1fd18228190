"""The golden images: a plain Debian server, made once and copied for every node.

A node has what a freshly installed server has: systemd, sshd, python3, and no container runtime.
The builder's image has pip, venv and git besides, since a connected machine can have them. Both
are kept in the cache under the digest of their recipe.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from .host import alive, command
from .state import LabError, cache_folder

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "udev", "sudo", "procps", "kmod"),
    *("openssh-server", "openssh-client", "openssl", "ca-certificates", "curl"),
    *("python3", "python3-apt"),
    *("iproute2", "iptables", "nftables", "conntrack", "socat", "ethtool", "ebtables", "ipset"),
    *("iputils-ping", "e2fsprogs", "less", "rsync", "gnupg", "xz-utils", "zstd", "chrony"),
)
BUILDER_PACKAGES = ("python3-venv", "python3-pip", "git")
# Nodes share one kernel and one clock: keep them off udev, the clock and timers that want mirrors.
MASKED = (
    *("systemd-udevd.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket"),
    *("systemd-udev-trigger.service", "systemd-modules-load.service", "chrony.service"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "apt-daily.timer", "apt-daily-upgrade.timer"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "console-getty.service"),
)
# A kernel without loadable modules has these built in; modprobe is told so.
BUILT_IN = (
    *("overlay", "br_netfilter", "nf_conntrack", "bridge", "vxlan", "veth", "nf_nat", "tun"),
    *("xt_conntrack", "ip_tables", "ip6_tables", "iptable_nat", "iptable_filter", "nf_tables"),
)
LAB_INIT = """\
#!/bin/sh
# nspawn gives the v1 controllers read-only; a server has them writable
for d in /sys/fs/cgroup/*/; do mount -o remount,bind,rw,nosuid,nodev,noexec "$d" 2>/dev/null; done
mount -o remount,bind,rw,nosuid,nodev,noexec /sys/fs/cgroup 2>/dev/null
mount --make-rshared /
[ -s /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -A >/dev/null
exec /lib/systemd/systemd "$@"
"""
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what is in the images."""

    suite: str = "bookworm"
    packages: tuple[str, ...] = PACKAGES
    builder_packages: tuple[str, ...] = BUILDER_PACKAGES
    masked: tuple[str, ...] = MASKED
    built_in: tuple[str, ...] = BUILT_IN
    init: str = LAB_INIT
    node_disk: str = "20G"
    builder_disk: str = "40G"
    version: int = 1  # raise it when the steps below change what they make

    def digest(self, kernel: str) -> str:
        text = json.dumps([asdict(self), kernel], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Images:
    """The two golden images on the host's disk."""

    node: Path
    builder: Path

    def for_node(self, name: str) -> Path:
        return self.builder if name == "builder" else self.node


def golden_images(recipe: Recipe | None = None) -> Images:
    """The images of the recipe, building them on first use (one to two minutes)."""
    recipe = recipe or Recipe()
    kernel = os.uname().release
    folder = cache_folder() / "base"
    stem = f"{recipe.suite}-{recipe.digest(kernel)}"
    images = Images(folder / f"{stem}.img", folder / f"{stem}-builder.img")
    if not (images.node.exists() and images.builder.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(".build-*"):
            shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as work:
            _build(recipe, kernel, Path(work), images)
    return images


def _build(recipe: Recipe, kernel: str, work: Path, images: Images) -> None:
    tree, debs = work / "tree", work / "debs"
    debs.mkdir()
    with alive("base image: mmdebstrap"):
        command(_mmdebstrap(recipe, tree, debs), timeout_s=1200)
    _make_server(recipe, kernel, tree)
    with alive("base image: ext4 of a node"):
        _make_image(tree, recipe.node_disk, images.node)
    with alive("base image: builder's packages"):
        inside = tree / "root" / "debs"
        debs.rename(inside)
        packages = sorted(f"/root/debs/{deb.name}" for deb in inside.glob("*.deb"))
        if not packages:
            raise LabError("mmdebstrap fetched no package for the builder")
        command(["chroot", str(tree), "dpkg", "-i", *packages], timeout_s=600)
        shutil.rmtree(inside)
    with alive("base image: ext4 of the builder"):
        _make_image(tree, recipe.builder_disk, images.builder)


def _mmdebstrap(recipe: Recipe, tree: Path, debs: Path) -> list[str]:
    """The command; the mirror is the tool's own choice unless PERIMETER_LAB_MIRROR names one."""
    fetch = "apt-get -y --no-install-recommends --download-only install "
    fetch += " ".join(recipe.builder_packages)
    keep = f'cp "$1"/var/cache/apt/archives/*.deb {debs}/'
    argv = ["nice", "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"]
    argv += [f"--include={','.join(recipe.packages)}", '--aptopt=Acquire::Languages "none"']
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    argv += ['--customize-hook=rm -f "$1"/var/cache/apt/archives/*.deb']
    argv += [f'--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" {fetch}']
    argv += [f"--customize-hook={keep}", recipe.suite, str(tree)]
    mirror = os.environ.get("PERIMETER_LAB_MIRROR")
    return [*argv, mirror] if mirror else argv


def _make_server(recipe: Recipe, kernel: str, tree: Path) -> None:
    """Turn a bootstrapped tree into a server that was never started."""
    etc = tree / "etc"
    for empty in ("resolv.conf", "machine-id", "default/locale"):  # of the host's, none is kept
        (etc / empty).unlink(missing_ok=True)
        (etc / empty).touch()
    for key in etc.glob("ssh/ssh_host_*"):
        key.unlink()
    (etc / "fstab").unlink(missing_ok=True)
    for source in [etc / "apt/sources.list", *etc.glob("apt/sources.list.d/*")]:
        source.unlink(missing_ok=True)  # a closed server has no mirror
    for unit in recipe.masked:
        link = etc / "systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    init = tree / "usr/local/sbin/lab-init"
    init.write_text(recipe.init)
    init.chmod(0o755)
    _make_admin(tree)
    _tell_modprobe(recipe, kernel, tree)


def _make_admin(tree: Path) -> None:
    inside = ["chroot", str(tree)]
    command([*inside, "useradd", "--create-home", "--shell", "/bin/bash", "admin"])
    sudoers = tree / "etc/sudoers.d/admin"
    sudoers.write_text("admin ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)


def _tell_modprobe(recipe: Recipe, kernel: str, tree: Path) -> None:
    if Path("/proc/modules").exists():
        return  # the kernel loads modules itself; a node sees what the host loaded
    modules = tree / "lib/modules" / kernel
    modules.mkdir(parents=True)
    (modules / "modules.order").touch()
    lines = [f"kernel/lab/{name}.ko\n" for name in recipe.built_in]
    (modules / "modules.builtin").write_text("".join(lines))
    command(["chroot", str(tree), "depmod", kernel], check=False)


def _make_image(tree: Path, size: str, image: Path) -> None:
    temporary = image.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    command(["truncate", "-s", size, str(temporary)])
    # no reserved blocks: `fill` then leaves root as little room as everybody else
    mkfs = ["nice", "mkfs.ext4", "-q", "-F", "-m0", "-d", str(tree), str(temporary)]
    command(mkfs, timeout_s=600)
    temporary.replace(image)
