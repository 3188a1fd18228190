"""A Distribution registry on a given storage, plain or with TLS."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes

from tests.lab.build import tool
from tests.lab.host import CLEAN_ENVIRONMENT
from tests.support.distribution import free_port

from benchmarks.place import BenchError, Place
from perimeter_installer.run.certificates import make_ca, make_server_certificate

_CONFIGURATION = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {store}, maxthreads: 200}}
  delete: {{enabled: true}}
http:
  addr: {address}
  relativeurls: true
{tls}validation: {{manifests: {{indexes: {{platforms: none}}}}}}
"""
_TLS = "  tls: {{certificate: {folder}/tls.crt, key: {folder}/tls.key, minimumtls: tls1.2}}\n"


@dataclass(frozen=True, slots=True)
class Registry:
    """Where a registry answers; ``ca_file`` is there when it speaks TLS."""

    address: str  # host:port
    store: Path
    ca_file: Path | None = None

    @property
    def url(self) -> str:
        """Its address with the scheme."""
        return f"{'https' if self.ca_file else 'http'}://{self.address}"


@contextlib.contextmanager
def serve(
    place: Place, store: Path, *, tls: bool = False, host: str = "127.0.0.1", netns: str = ""
) -> Iterator[Registry]:
    """A registry that runs as long as the block lasts."""
    address = f"{host}:{free_port()}"
    folder = place.work / f"registry-{address.rpartition(':')[2]}"
    folder.mkdir(parents=True)
    ca_file = _certificates(folder, host) if tls else None
    text = _CONFIGURATION.format(
        store=store, address=address, tls=_TLS.format(folder=folder) if tls else ""
    )
    (folder / "config.yml").write_text(text)
    words = [str(tool("registry")), "serve", str(folder / "config.yml")]
    registry = Registry(address, store, ca_file)
    with started(place, words, folder / "log", netns) as process:
        wait_for(registry, process, folder / "log", netns)
        yield registry


@contextlib.contextmanager
def started(
    place: Place, words: list[str], log: Path, netns: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A process beside the measured ones, ended with the block."""
    inside = ["nsenter", f"--net=/run/netns/{netns}"] if netns else []
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*inside, *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**CLEAN_ENVIRONMENT, "OTEL_TRACES_EXPORTER": "none"},
            cwd=Path(__file__).resolve().parents[1],
            start_new_session=True,
        )
    with place.recorded(process.pid):
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(
    registry: Registry, process: subprocess.Popen[bytes], log: Path, netns: str = ""
) -> None:
    """Returns when it answers; raises BenchError with what it said when it does not."""
    deadline = time.monotonic() + 20
    while not _answers(registry, netns):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"the registry did not start:\n{log.read_text()[-1500:]}")
        time.sleep(0.05)


def _answers(registry: Registry, netns: str) -> bool:
    if netns:  # asked from inside: this process stays where it is
        host, _, port = registry.address.rpartition(":")
        ask = f"import socket; socket.create_connection(({host!r}, {port}), 2)"
        words = ["nsenter", f"--net=/run/netns/{netns}", sys.executable, "-c", ask]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if registry.ca_file:
        context = ssl.create_default_context(cafile=str(registry.ca_file))
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        urllib.request.build_opener(*handlers).open(f"{registry.url}/v2/", timeout=2).close()
    except OSError:
        return False
    return True


def _certificates(folder: Path, host: str) -> Path:
    ca = make_ca("benchmark", datetime.now(UTC), token_bytes)
    names = tuple(dict.fromkeys((host, "127.0.0.1", "localhost")))  # a relay stands at loopback
    pair = make_server_certificate(ca, names, datetime.now(UTC), token_bytes)
    (folder / "tls.crt").write_text(pair.certificate)
    (folder / "tls.key").write_text(pair.key)
    (folder / "ca").mkdir()
    (folder / "ca/ca.crt").write_text(ca.certificate)
    return folder / "ca/ca.crt"
