"""A real kube-apiserver with a real etcd, on loopback: no nodes and no controllers."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes, token_hex

import urllib3
import yaml

from perimeter_installer.run.certificates import make_ca, make_server_certificate
from tests.lab.build import tool
from tests.support.distribution import free_port

START_TIMEOUT_S = 60.0


@dataclass(slots=True)
class ApiServer:
    """Use it in a ``with`` block; ``kubeconfig`` is an administrator's."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def kubeconfig(self) -> Path:
        """Access to it."""
        return self.folder / "kubeconfig"

    def __enter__(self) -> ApiServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGKILL)
            process.wait()

    def _start(self) -> None:
        now = datetime.now(UTC)
        ca = make_ca("test", now, token_bytes)
        pair = make_server_certificate(ca, ("127.0.0.1", "localhost"), now, token_bytes)
        token, port, etcd, peer = token_hex(16), free_port(), free_port(), free_port()
        for name, text in (
            ("tls.crt", pair.certificate),
            ("tls.key", pair.key),
            ("tokens.csv", f"{token},admin,admin,system:masters\n"),
        ):
            (self.folder / name).write_text(text)
        self._run(
            tool("etcd"),
            f"--data-dir={self.folder}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )
        self._run(
            tool("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={self.folder}/tls.crt",
            f"--tls-private-key-file={self.folder}/tls.key",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder}/tls.crt",
            f"--service-account-signing-key-file={self.folder}/tls.key",
            "--disable-admission-plugins=ServiceAccount",
        )
        encoded = base64.b64encode(ca.certificate.encode()).decode()
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": encoded}
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "admin", "user": {"token": token}}],
                    "contexts": [{"name": "t", "context": {"cluster": "test", "user": "admin"}}],
                    "current-context": "t",
                }
            )
        )
        self._wait(f"https://127.0.0.1:{port}/readyz", ca.certificate)

    def _run(self, program: Path, *arguments: str) -> None:
        with (self.folder / f"{program.name}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [str(program), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                )
            )

    def _wait(self, url: str, ca: str) -> None:
        (self.folder / "ca.crt").write_text(ca)
        pool = urllib3.PoolManager(ca_certs=str(self.folder / "ca.crt"), retries=False)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                if pool.request("GET", url, timeout=5).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                pass
            ended = [one for one in self.processes if one.poll() is not None]
            if ended or time.monotonic() > deadline:
                log = (self.folder / "kube-apiserver.log").read_text()[-2000:]
                raise AssertionError(f"kube-apiserver did not start: {json.dumps(log)}")
            time.sleep(0.2)
