"""Runs one node for as long as it shall be on: ``python -m tests.lab.supervise run|boot …``.

``run`` stays in the background, in the node's control group, and boots the node again when it
reboots itself. ``boot`` runs in a mount namespace of its own, so that no other node can pin this
node's disk, mounts the disk and becomes systemd-nspawn.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .cgroups import Group
from .host import CLEAN_ENVIRONMENT, command
from .network import Network, port_of
from .state import REPOSITORY, Process, StateFolder, read_json

REBOOTED = 133  # what nspawn with --keep-unit ends with when its system wants to start again
UNSHARED = ["unshare", "--mount", "--propagation", "private"]


def run(state: StateFolder, name: str) -> int:
    """Boot the node, again after each reboot, until it is off."""
    group = Group(state, name)
    group.enter("keeper")
    config = read_json(state.config) or {}
    network = Network(state, config.get("gateway", "none"))
    port = port_of(name)
    while True:
        group.clear()
        network.plug(port)
        boot_argv = [sys.executable, "-m", __spec__.name, "boot", str(state.path), name]
        with (state.node(name) / "console.log").open("ab") as console:
            child = subprocess.Popen(
                [*UNSHARED, *boot_argv],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=REPOSITORY,
            )
            if process := Process.of(child.pid):
                process.write(state.record(f"{name}.nspawn"))
            status = child.wait()
            console.write(f"--- nspawn of {name} ended: {status}\n".encode())
        state.record(f"{name}.nspawn").unlink(missing_ok=True)
        if status != REBOOTED:
            return 0


def boot(state: StateFolder, name: str) -> int:
    """Become systemd-nspawn over the node's disk."""
    Group(state, name).enter("machine")
    folder = state.node(name)
    root = folder / "root"
    root.mkdir(exist_ok=True)
    command(["mount", "-o", "loop", str(folder / "disk.img"), str(root)])
    provisioned = folder / "provisioned"
    if not provisioned.exists():  # once, as an installer does; later the node's files are its own
        provision(root, name, (state.ssh_key.with_suffix(".pub")).read_text(), state)
        provisioned.touch()
    environment = CLEAN_ENVIRONMENT | {
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes",  # sysctl -w works, as on a server
        "SYSTEMD_SECCOMP": "0",
    }
    space = f"/run/netns/{state.namespace(name)}"
    os.execvpe("systemd-nspawn", nspawn_argv(name, root, space), environment)


def nspawn_argv(name: str, root: Path, space: str) -> list[str]:
    """The command. CAP_SYS_TIME is dropped because the clock is the host's."""
    modules = Path("/lib/modules") / os.uname().release
    return [
        *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--machine={name}"),
        *(f"--directory={root}", f"--network-namespace-path={space}", "--private-users=no"),
        *("--capability=all", "--drop-capability=CAP_SYS_TIME", "--kill-signal=SIGRTMIN+3"),
        *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only"),
        *("--bind=/dev/kmsg", "--bind=/dev/fuse", "--bind=/dev/loop-control"),
        # a kernel with modules loads them for its nodes too
        *([f"--bind-ro={modules}:/usr{modules}"] if modules.is_dir() else []),
        "/usr/local/sbin/lab-init",
    ]


def provision(root: Path, name: str, public_key: str, state: StateFolder) -> None:
    """Give a new disk its name and the keys that may log in. Peers are not in /etc/hosts."""
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
    admin = (root / "home/admin").stat()
    for home, owner, group in (("root", 0, 0), ("home/admin", admin.st_uid, admin.st_gid)):
        folder = root / home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        keys = folder / "authorized_keys"
        keys.write_text(public_key)
        keys.chmod(0o600)
        for path in (folder, keys):
            os.chown(path, owner, group)
    if name == "jump":
        for suffix, mode in (("", 0o600), (".pub", 0o644)):
            key = root / "root/.ssh" / f"id_ed25519{suffix}"
            key.write_bytes(state.ssh_key.with_suffix(suffix).read_bytes())
            key.chmod(mode)


def main(argv: list[str]) -> int:
    verb, path, name = argv
    return {"run": run, "boot": boot}[verb](StateFolder(Path(path)), name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
