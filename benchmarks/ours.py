"""Our side: the only file that knows how perimeter is called, and through which functions.

A whole ``perimeter-bundle build`` renders charts, asks kubeadm and packs wheels besides, so what it
collects is timed in a process of its own, ``benchmarks.collect_process``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.bundles import SmallBundle

from benchmarks.content import HOST, TAG, ImageSet
from benchmarks.peers import Job
from benchmarks.registry import Registry
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import Lock, LockedImage
from perimeter_bundle.model.platform import LINUX_AMD64
from perimeter_bundle.model.reference import ImageReference

NAME = "perimeter"
_INSTALL = "from perimeter_installer.cli.main import main; main()"
_BUNDLE = "from perimeter_bundle.cli.main import main; main()"
_SITE = """\
site: {{name: bench}}
ssh: {{user: root}}
hosts:
  n1: {{address: 10.99.0.11, groups: [control_plane, worker]}}
registry: {{mode: external, url: "{url}"{ca}}}
"""
_ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """For our processes: the programs of this checkout."""
    paths = (_ROOT / "bundle", _ROOT / "installer", _ROOT)
    return {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": ""}


def lock_of(wanted: ImageSet) -> Lock:
    """Every image of the set, pinned."""
    images = tuple(
        LockedImage(
            reference=ImageReference.parse(f"{HOST}/{image.repository}:{TAG}"),
            digest=Digest.parse(image.manifest.digest),
            media_type=image.manifest.media_type,
            manifests={LINUX_AMD64: Digest.parse(image.manifest.digest)},
            size_bytes=image.manifest.size_bytes + sum(one.size_bytes for one in image.blobs),
            components=("minio",),
            why=("a benchmark",),
        )
        for image in wanted.images
    )
    return Lock("bench", 1, (LINUX_AMD64,), images, (), ())


def collect_job(wanted: ImageSet, registry: Registry, target: Path, work: Path) -> Job:
    """Collects the set into ``target``."""
    lock = work / "bench.lock"
    lock.write_bytes(lock_of(wanted).to_bytes())
    words = ["-m", "benchmarks.collect_process", str(lock), str(target), f"{HOST}={registry.url}"]
    if registry.ca_file:
        words += ["--ca-file", str(registry.ca_file)]
    return Job([sys.executable, *words], environment())


def load_job(bundle: SmallBundle, registry: Registry, site: Path, *more: str) -> Job:
    """``perimeter-install load`` at a site with an external registry."""
    words = ["--site", str(site / "site.yaml"), "--bundle", str(bundle.root)]
    words += ["--trust", str(bundle.trust_folder), *more]
    if registry.ca_file:
        port = registry.address.rpartition(":")[2]
        write_site(site, f"https://localhost:{port}", registry.ca_file.read_text())
        return Job([sys.executable, "-c", _INSTALL, "load", *words], environment())
    write_site(site, "https://registry.example", "")
    argv = [sys.executable, "-m", "benchmarks.load_process", registry.url, *words]
    return Job(argv, environment())


def verify_job(bundle: SmallBundle) -> Job:
    """``perimeter-bundle verify``, whole."""
    words = ["verify", str(bundle.root), "--trust", str(bundle.trust_folder)]
    return Job([sys.executable, "-c", _BUNDLE, *words], environment())


def write_site(folder: Path, url: str, ca: str) -> None:
    """A site whose registry is not perimeter's own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "registry-ca.pem").write_text(ca)
    text = _SITE.format(url=url, ca=", ca_file: registry-ca.pem" if ca else "")
    (folder / "site.yaml").write_text(text)
    key = folder / "vault.key"
    key.write_text("the password of a benchmark's vault\n")
    key.chmod(0o600)
