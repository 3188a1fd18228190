"""images.lock of this repository, written by ``perimeter-bundle lock 2026.11 --unresolved`` itself.

``python -m tests.support.default_lock`` runs the command without a network: on loopback a server
gives what upstream publishes, as the lab does. It serves no image.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from perimeter_bundle.catalog.load import load_catalog, load_release
from perimeter_bundle.catalog.values import Release
from perimeter_bundle.collect.reading import files_to_read
from perimeter_bundle.collect.wanted import WantedFile
from tests.lab.build import tool
from tests.lab.pki import Authority, server_context
from tests.lab.upstream import serve_layout
from tests.lab.whole import CATALOG, LOCK, RELEASE, lab_catalog, publish_objects, publish_trees
from tests.support.kustomize import kustomize_archive

LOCK_FILE = LOCK
WRITE_IT = "python -m tests.support.default_lock"
HOST = "127.0.0.1"
COMMAND = "from perimeter_bundle.cli.main import main; main()"
TIMEOUT_S = 600.0


def default_lock(folder: Path) -> bytes:
    """What the command writes today; ``folder`` is a place for its upstream."""
    release = load_release(load_catalog(CATALOG), RELEASE)
    files, trees = folder / "files", folder / "git"
    commits = _publish(files / HOST, trees / HOST, release)
    catalog, out = lab_catalog(commits, folder), folder / "images.lock"
    authority = Authority.in_folder(folder)
    certificate, key = folder / "server.crt", folder / "server.key"
    authority.issue([f"IP:{HOST}"], certificate, key)
    with serve_layout(
        None, files=files, git=trees, tls=server_context(certificate, key), rules={}
    ) as server:
        words = ["lock", RELEASE, "--unresolved", "--out", str(out), "--catalog", str(catalog)]
        words += ["--ca-file", str(authority.certificate)]
        for host in _hosts(release):
            words += ["--mirror", f"{host}={server.url}/{host}"]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        asked = {str(one.get("path", "")) for one in server.requests}
    assert done.returncode == 0, done.stderr
    assert not [path for path in asked if path.startswith("/v2")], "a registry was asked"
    return _with_real_commits(out.read_bytes(), commits)


def _publish(files: Path, trees: Path, release: Release) -> Mapping[str, str]:
    """Everything that the command reads, at the paths of its mirrors; the trees' commits."""
    wanted = files_to_read(release)
    for one in wanted:
        if one.checksum_url:
            _publish_program(files, one)
    publish_objects(files, release, wanted)
    return publish_trees(trees, {})


def _publish_program(root: Path, wanted: WantedFile) -> None:
    data = kustomize_archive() if wanted.name == "kustomize" else tool(wanted.name).read_bytes()
    name = unquote(urlsplit(wanted.url).path).rpartition("/")[2]
    sums = f"{hashlib.sha256(data).hexdigest()}  {name}\n"
    for url, content in ((wanted.url, data), (wanted.checksum_url, sums.encode())):
        target = root / unquote(url.removeprefix("https://"))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _hosts(release: Release) -> list[str]:
    urls = [one.url for one in files_to_read(release)]
    urls += [chart.repository for one in release.components for chart in one.charts]
    urls += [source.git for source in release.sources]
    return sorted({urlsplit(url).netloc for url in urls})


def _with_real_commits(lock: bytes, commits: Mapping[str, str]) -> bytes:
    """The lab's trees have commits of their own; the lock names the catalog's."""
    for source in load_release(load_catalog(CATALOG), RELEASE).sources:
        ours = commits[source.git.removeprefix("https://")]
        lock = lock.replace(ours.encode(), source.commit.encode())
    return lock


def main() -> None:
    """Writes the lock."""
    with tempfile.TemporaryDirectory() as folder:
        LOCK_FILE.write_bytes(default_lock(Path(folder)))


if __name__ == "__main__":
    main()
