"""Our side: the only file that knows how perimeter is called, and through which functions.

A whole ``perimeter-bundle build`` renders charts, asks kubeadm and packs wheels besides, so what it
collects is timed in a process of its own: ``python -m benchmarks.ours`` calls the functions that
build calls, with the settings that the same options give.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.content import TAG, ImageSet
from benchmarks.peers import Job
from benchmarks.registry import Registry
from perimeter_bundle.collect.assemble import write_index
from perimeter_bundle.collect.pull import pull_blobs, pull_images
from perimeter_bundle.collect.upstream import open_upstream
from perimeter_bundle.collect.workspace import open_workspace
from perimeter_bundle.format import layout
from perimeter_bundle.format.files import write_file
from perimeter_bundle.format.oci import LAYOUT_VERSION
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.events import ignore_events
from perimeter_bundle.model.lock import Lock, LockedImage
from perimeter_bundle.model.platform import LINUX_AMD64
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.settings import DEFAULT_WORKERS, settings_from

NAME = "perimeter"
HOST = "bench.example"  # what images are named after; a mirror says where it really is
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
    words = ["-m", "benchmarks.ours", str(lock), str(target), f"{HOST}={registry.url}"]
    if registry.ca_file:
        words += ["--ca-file", str(registry.ca_file)]
    return Job([sys.executable, *words], environment())


def collect(lock_path: Path, out: Path, mirror: str, ca_file: Path | None, workers: int) -> None:
    """What build does between reading a lock and looking at charts, and the index."""
    lock_bytes = lock_path.read_bytes()
    lock = Lock.parse(lock_bytes)
    unsafe = [mirror.rpartition("//")[2]] if "http://" in mirror else []
    settings = settings_from(
        environment={},
        mirrors=[mirror],
        ca_file=ca_file,
        workers=workers,
        unsafe_http_hosts=unsafe,
    )
    upstream = open_upstream(settings)
    with open_workspace(out, lock, lock_bytes) as workspace:
        images = pull_images(lock, upstream, workspace)
        pull_blobs(lock, images, upstream, workspace, ignore_events)
        write_file(out / layout.OCI_LAYOUT, LAYOUT_VERSION)
        write_file(out / layout.INDEX, write_index(images, ()))


def main() -> None:
    """Collects once, in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ours", description=__doc__)
    parser.add_argument("lock", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("mirror", metavar="HOST=URL")
    parser.add_argument("--ca-file", type=Path)
    parser.add_argument("--workers", type=int, default=DEFAULT_WORKERS)
    asked = parser.parse_args()
    collect(asked.lock, asked.out, asked.mirror, asked.ca_file, asked.workers)


if __name__ == "__main__":
    main()
