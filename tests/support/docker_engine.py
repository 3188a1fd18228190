"""A Docker engine of the test's own: Debian's dockerd, with the lab's containerd and runc.

It gets no network, no firewall rules and mounts that nobody else sees, and only keeps images: no
container ever runs in it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import docker

from tests.lab.build import tool
from tests.lab.recipes.debian import program_of

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
_OPTIONS = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false")


@dataclass(slots=True)
class DockerEngine:
    """One dockerd; use it in a ``with`` block. Needs root."""

    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def host(self) -> str:
        """What DOCKER_HOST is to be."""
        return f"unix://{self.folder}/s"

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text("utf-8", "replace")

    def client(self) -> docker.DockerClient:
        """A client of the SDK."""
        return docker.DockerClient(base_url=self.host, version="auto", timeout=60)

    def __enter__(self) -> DockerEngine:
        dockerd = program_of("docker.io", "usr/sbin/dockerd", ("libdevmapper1.02.1",))
        (self.folder / "daemon.json").write_text("{}")
        places = [str(tool(name).parent) for name in ("containerd", "runc")]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *("unshare", "--mount", "--propagation", "private", str(dockerd)),
                    *(*_OPTIONS, "--storage-driver=vfs", "-H", self.host),
                    *("--data-root", str(self.folder / "data")),
                    *("--exec-root", str(self.folder / "exec")),
                    *("--pidfile", str(self.folder / "pid")),
                    *("--config-file", str(self.folder / "daemon.json")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": ":".join([*places, "/usr/sbin:/usr/bin:/sbin:/bin"])},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.client().close()
            except docker.errors.DockerException:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise AssertionError(f"dockerd did not start:\n{self.log[-3000:]}") from None
                time.sleep(0.2)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends it and the containerd it started."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
