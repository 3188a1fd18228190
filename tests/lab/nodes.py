"""One server of the lab: start and stop it, run commands in it, move files, and break it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import faults
from .cgroups import Group, join_script
from .commands import OnLine, communicate, line_printer, pipe, unpack_argv
from .host import CLEAN_ENVIRONMENT, command, say
from .network import Network, Port, port_of
from .state import REPOSITORY, LabError, Process, StateFolder, read_json, wait_until

Result = subprocess.CompletedProcess[str]


class CommandFailed(LabError):
    """A command in a node ended with a status other than zero, or not in time."""

    def __init__(self, node: str, argv: Sequence[str], result: Result, why: str) -> None:
        self.result = result
        tail = "\n".join((result.stdout + result.stderr).strip().splitlines()[-30:])
        super().__init__(f"{node}: {shlex.join(argv)}: {why}\n{tail}")


@dataclass(frozen=True, slots=True)
class Node:
    """A server. Everything it knows lies in the state folder, so any process can make one."""

    state: StateFolder
    name: str

    @property
    def port(self) -> Port:
        return port_of(self.name)

    @property
    def address(self) -> str:
        return self.port.address

    @property
    def group(self) -> Group:
        return Group(self.state, self.name)

    @property
    def folder(self) -> Path:
        return self.state.node(self.name)

    @property
    def console(self) -> str:
        """What the node wrote to its console, all boots."""
        path = self.folder / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def _network(self) -> Network:
        config = read_json(self.state.config) or {}
        return Network(self.state, config.get("gateway", "none"))

    # --- life ---------------------------------------------------------------------------------

    def running(self) -> bool:
        return self._supervisor() is not None

    def leader(self) -> int:
        """Host's id of the node's first process; raises LabError where the node is off."""
        pid = self._leader_or_none()
        if pid is None:
            raise LabError(f"{self.name} is off")
        return pid

    @property
    def root(self) -> Path:
        """The node's file system as the host sees it; absolute links in it lead astray."""
        return Path(f"/proc/{self.leader()}/root")

    def start(self, wait: bool = True, timeout_s: float = 120.0) -> None:
        """Switch it on; with ``wait``, come back when it is up."""
        if not self.running():
            memory_bytes = int((read_json(self.state.config) or {})["memory_bytes"][self.name])
            self.group.create(memory_bytes)
            self._spawn_supervisor()
        if wait:
            self.wait_up(timeout_s)

    def wait_up(self, timeout_s: float = 120.0) -> str:
        """Wait until systemd has started everything; gives back ``running`` or ``degraded``."""
        state = ""

        def up() -> bool:
            nonlocal state
            if self._leader_or_none() is None:
                return False
            with contextlib.suppress(LabError, OSError):
                state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
            return state in ("running", "degraded")

        if not wait_until(up, timeout_s):
            raise LabError(f"{self.name} is not up after {timeout_s:.0f} s: {state or 'no answer'}")
        return state

    def stop(self, timeout_s: float = 30.0) -> None:
        """Shut it down in order; after the time, pull the plug."""
        if nspawn := Process.read(self.state.record(f"{self.name}.nspawn")):
            nspawn.signal(signal.SIGTERM)
        supervisor = self._supervisor()
        if supervisor and not supervisor.wait_gone(timeout_s):
            self.kill()

    def kill(self) -> None:
        """Pull the plug; the disk still gets what was in memory (see ``crash``)."""
        supervisor = self._supervisor()
        self.group.thaw()
        leader = self._leader_or_none()
        if leader is not None:
            os.kill(leader, signal.SIGKILL)
        if supervisor and not supervisor.wait_gone(20.0):
            self.group.kill()

    def crash(self) -> None:
        """Power loss: what was not yet written to the disk is lost."""
        faults.shut_down_filesystem(self.root / "var")
        self.kill()

    def reboot(self, wait: bool = True, timeout_s: float = 120.0) -> None:
        """Reboot from inside."""
        before = self.leader()
        self.run(["systemctl", "reboot"], check=False)
        if not wait_until(lambda: self._leader_or_none() not in (None, before), timeout_s):
            raise LabError(f"{self.name} did not reboot within {timeout_s:.0f} s")
        if wait:
            self.wait_up(timeout_s)

    def pause(self) -> None:
        """Every process stands still; the network stays up."""
        self.group.freeze()

    def resume(self) -> None:
        self.group.thaw()

    # --- commands and files -------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[str] | str,
        *,
        input: str | None = None,
        timeout_s: float = 60.0,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        user: str = "root",
        stream: bool | OnLine = False,
    ) -> Result:
        """Run a command in the node; needs no network, so it works when that is cut.

        A string is given to bash with ``-euo pipefail``. With ``stream``, each line of output goes
        to the given function (or to stderr) as it comes. Raises CommandFailed when the status is
        not zero (unless ``check`` is false) and always when the time is over.
        """
        words = ["bash", "-euo", "pipefail", "-c", argv] if isinstance(argv, str) else list(argv)
        on_line = line_printer(self.name) if stream is True else (stream or None)
        process = subprocess.Popen(
            self.host_argv(words, env=env, user=user),
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=CLEAN_ENVIRONMENT,
            start_new_session=True,
        )
        stdout, stderr, in_time = communicate(process, input, timeout_s, on_line)
        ended = process.returncode  # None in a paused node, where not even SIGKILL is heard yet
        result = Result(words, -signal.SIGKILL if ended is None else ended, stdout, stderr)
        if not in_time:
            raise CommandFailed(self.name, words, result, f"not done after {timeout_s:.0f} s")
        if check and result.returncode != 0:
            raise CommandFailed(self.name, words, result, f"exit status {result.returncode}")
        return result

    def host_argv(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, user: str = "root"
    ) -> list[str]:
        """The host's command that runs argv in the node, in its control group."""
        leader = self.leader()
        home = "/root" if user == "root" else f"/home/{user}"
        clean = CLEAN_ENVIRONMENT | {"HOME": home, "USER": user, "LOGNAME": user} | dict(env or {})
        inside = ["env", "-i", *(f"{name}={value}" for name, value in clean.items())]
        inside += ["sh", "-c", 'cd "$HOME" && exec "$@"', "sh", *argv]
        if user != "root":
            inside = ["runuser", "-u", user, "--", *inside]
        script = f'{join_script(leader)}\nexec nsenter -t {leader} -a -- "$@"'
        return ["sh", "-c", script, "sh", *inside]

    def push(self, local: Path | str, remote: str) -> None:
        """Copy a file or a folder of the host to the path ``remote`` in the node."""
        local = Path(local)
        pack = ["tar", "-C", str(local.parent), "-cf", "-", "--", local.name]
        pipe(pack, self.host_argv(unpack_argv(local.name, remote)))

    def pull(self, remote: str, local: Path | str) -> None:
        """Copy a file or a folder of the node to the path ``local`` of the host."""
        folder, _, name = remote.rstrip("/").rpartition("/")
        pack = self.host_argv(["tar", "-C", folder or "/", "-cf", "-", "--", name])
        pipe(pack, unpack_argv(name, str(local)))

    def shell(self) -> int:
        """An interactive shell in the node."""
        argv = self.host_argv(["bash", "-l"], env={"TERM": os.environ.get("TERM", "dumb")})
        return subprocess.run(argv, check=False).returncode

    # --- faults -------------------------------------------------------------------------------

    def cut(self) -> None:
        """Pull the network cable."""
        self._network.cut(self.port)

    def heal(self) -> None:
        """Plug the network cable in again."""
        self._network.heal(self.port)

    def fill_disc(self, path: str = "/", keep_free_bytes: int = 0) -> int:
        """Fill the disk below ``path`` until so much is left; gives back the bytes taken."""
        return faults.fill_disc(self.run, path, keep_free_bytes)

    def free_disc(self) -> None:
        """Give back what ``fill_disc`` took, everywhere."""
        faults.free_disc(self.run)

    def freeze_disc(self) -> None:
        """Writes hang until ``thaw_disc``, as on a storage system that does not answer."""
        command(["fsfreeze", "-f", str(self.root)])

    def thaw_disc(self) -> None:
        command(["fsfreeze", "-u", str(self.root)])

    def memory_bytes(self) -> int:
        """Memory in use, without page cache that could be dropped at once."""
        return self.group.memory_bytes()

    # --- inner --------------------------------------------------------------------------------

    def _supervisor(self) -> Process | None:
        return Process.read(self.state.record(self.name))

    def _leader_or_none(self) -> int | None:
        nspawn = Process.read(self.state.record(f"{self.name}.nspawn"))
        if nspawn is None:
            return None
        try:
            children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
            for child in map(int, children):
                # before nspawn's child has become the first process it is still on the host
                status = Path(f"/proc/{child}/status").read_text()
                if re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE):
                    return child
        except OSError:
            pass
        return None

    def _spawn_supervisor(self) -> None:
        argv = [sys.executable, "-m", "tests.lab.supervise", "run", str(self.state.path), self.name]
        with (self.folder / "console.log").open("ab") as console:
            child = subprocess.Popen(
                ["nice", "-n", "5", *argv],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=REPOSITORY,
                start_new_session=True,
            )
        _reap_later(child)
        if process := Process.of(child.pid):
            process.write(self.state.record(self.name))


def _reap_later(child: subprocess.Popen[bytes]) -> None:
    """Wait for the child in the background, so that it never stays as a zombie."""
    threading.Thread(target=child.wait, daemon=True).start()


def carry(source: Node, path: str, target: Node, destination: str) -> float:
    """Carry a folder from one node's disk to another's, as by hand; gives back the seconds."""
    begin = time.monotonic()
    folder, _, name = path.rstrip("/").rpartition("/")
    pack = source.host_argv(["tar", "-C", folder or "/", "-cf", "-", "--", name])
    pipe(pack, target.host_argv(unpack_argv(name, destination)))
    seconds = time.monotonic() - begin
    say(f"carried {source.name}:{path} to {target.name}:{destination} in {seconds:.1f} s")
    return seconds
