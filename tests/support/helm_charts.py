"""Charts made for tests, repositories and registries that hold them, and the real Helm."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import ssl
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urljoin

from tests.support.distribution import Distribution
from tests.support.lying_server import LyingServer

Files = Mapping[str, str | bytes]

_HELM = """\
import sys, helm_python
folder, how = sys.argv[1:]
if how == "files":
    import json
    with helm_python.Chart.load(folder) as chart:
        names = [one["name"] for one in (*chart.files, *chart.templates)]
    print(json.dumps(sorted(names)))
else:
    getattr(helm_python, "dependency_" + how)(folder)
"""


def chart_files(name: str, version: str, needs: Sequence[str] = (), **more: str | bytes) -> Files:
    """A chart with one ConfigMap that tells its version, and ``needs`` as flow mappings."""
    lines = "".join(f"- {{{need}}}\n" for need in needs)
    about = f"apiVersion: v2\nname: {name}\nversion: {version}\n"
    return {
        "Chart.yaml": about + (f"dependencies:\n{lines}" if needs else ""),
        "values.yaml": "size: 1\n",
        "templates/map.yaml": (
            "apiVersion: v1\nkind: ConfigMap\n"
            f"metadata: {{name: {{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}}}\n"
            f"data: {{chart: '{name} {version}', size: '{{{{ .Values.size }}}}'}}\n"
        ),
        **more,
    }


def as_archive(files: Files, name: str) -> bytes:
    """The archive of a chart's files."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)


def publish(server: LyingServer, folder: str, charts: Mapping[tuple[str, str], bytes]) -> str:
    """A repository of these archives by name and version; gives back its address."""
    entries: dict[str, list[dict[str, object]]] = {}
    for (name, version), data in charts.items():
        server.serve(f"{folder}/{name}-{version}.tgz", data)
        row = {"name": name, "version": version, "urls": [f"{name}-{version}.tgz"]}
        digest = hashlib.sha256(data).hexdigest()
        entries.setdefault(name, []).append({**row, "apiVersion": "v2", "digest": digest})
    text = json.dumps({"apiVersion": "v1", "entries": entries})
    server.serve(f"{folder}/index.yaml", text.encode())
    return server.url + folder


def push_chart(registry: Distribution, repository: str, version: str, data: bytes) -> str:
    """Puts a chart into a registry as Helm does; gives back the digest of its archive."""
    name = repository.rpartition("/")[2]
    config = json.dumps({"name": name, "version": version, "apiVersion": "v2"}).encode()
    layers = [
        _pushed(registry, repository, config, "application/vnd.cncf.helm.config.v1+json"),
        _pushed(registry, repository, data, "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layers[0],
        "layers": layers[1:],
    }
    tag = version.replace("+", "_")
    url = f"{registry.url}/v2/{repository}/manifests/{tag}"
    _send(registry, url, "PUT", json.dumps(manifest).encode(), str(manifest["mediaType"]))
    return str(layers[1]["digest"])


def _pushed(registry: Distribution, repository: str, data: bytes, kind: str) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    begun = _send(registry, f"{registry.url}/v2/{repository}/blobs/uploads/", "POST", b"", "")
    place = urljoin(registry.url, begun) if begun.startswith("/") else begun
    joint = "&" if "?" in place else "?"
    _send(registry, f"{place}{joint}digest={digest}", "PUT", data, "application/octet-stream")
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def _send(registry: Distribution, url: str, method: str, data: bytes, kind: str) -> str:
    context = ssl.create_default_context(cadata=registry.ca.certificate)
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    with urllib.request.urlopen(request, context=context, timeout=10) as answer:
        return str(answer.headers.get("Location") or "")


def write_chart(folder: Path, files: Files) -> Path:
    """A chart as a folder."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def run_helm(folder: Path, how: str, ca_file: Path) -> str:
    """The real Helm's ``dependency build`` or ``update`` in a chart's folder; also ``files``.

    In a process of its own: Go reads which authorities it trusts once.
    """
    home = folder.parent / "helm-home"
    home.mkdir(exist_ok=True)
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "SSL_CERT_FILE": str(ca_file)}
    done = subprocess.run(
        [sys.executable, "-c", _HELM, str(folder), how],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout
