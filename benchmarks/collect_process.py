"""One process that collects: the functions that build calls, with what its options would give."""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path
from typing import TextIO

from perimeter_bundle.collect.assemble import write_index
from perimeter_bundle.collect.pull import pull_blobs, pull_images
from perimeter_bundle.collect.upstream import open_upstream
from perimeter_bundle.collect.workspace import open_workspace
from perimeter_bundle.format import layout
from perimeter_bundle.format.files import write_file
from perimeter_bundle.format.oci import LAYOUT_VERSION
from perimeter_bundle.model.events import Event, OnEvent, ignore_events
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.registry.settings import DEFAULT_WORKERS, settings_from


def collect(
    lock_path: Path,
    out: Path,
    mirror: str,
    ca_file: Path | None,
    workers: int,
    on_event: OnEvent = ignore_events,
) -> None:
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
    upstream = open_upstream(settings, on_event=on_event)
    with open_workspace(out, lock, lock_bytes) as workspace:
        images = pull_images(lock, upstream, workspace)
        pull_blobs(lock, images, upstream, workspace, on_event)
        write_file(out / layout.OCI_LAYOUT, LAYOUT_VERSION)
        write_file(out / layout.INDEX, write_index(images, ()))


def main() -> None:
    """Collects once, in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collect_process")
    parser.add_argument("lock", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("mirror", metavar="HOST=URL")
    parser.add_argument("--ca-file", type=Path)
    parser.add_argument("--workers", type=int, default=DEFAULT_WORKERS)
    parser.add_argument("--events", type=Path, help="write every event and when it came")
    asked = parser.parse_args()
    words = (asked.lock, asked.out, asked.mirror, asked.ca_file, asked.workers)
    if not asked.events:
        collect(*words)
        return
    with asked.events.open("w") as file:
        collect(*words, _written_to(file))


def _written_to(file: TextIO) -> OnEvent:
    begin_s, lock = time.monotonic(), threading.Lock()

    def write(event: Event) -> None:
        with lock:
            file.write(json.dumps([time.monotonic() - begin_s, event.to_dict()]) + "\n")

    return write


if __name__ == "__main__":
    main()
