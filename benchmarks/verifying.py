"""Verifying, beside what the processor and the disc allow."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from tests.support.bundles import SmallBundle

from benchmarks import ours
from benchmarks.content import ImageSet
from benchmarks.measure import Run, run
from benchmarks.pairs import Rival
from benchmarks.rows import Row, share
from benchmarks.tasks import GB, Bench
from perimeter_bundle.format.aligned import aligned_buffer, open_direct

THREADS = 2
_BLOCK = 4 << 20


def verify(bench: Bench, wanted: ImageSet, bundle: SmallBundle) -> None:
    """Warm against SHA-256 alone, cold against reading alone, in turns."""
    paths = [wanted.path(digest) for digest in wanted.blobs]
    size = wanted.total_bytes
    rounds: list[list[Run]] = []
    hashing, reading, warm, cold = [], [], [], []
    for _ in range(bench.pairs):
        read_all(paths, direct=False)  # into the page cache
        hashing.append(hash_memory(size))
        warm.append(_verify(bench, bundle, "warm"))
        forget(paths)
        cold.append(_verify(bench, bundle, "cold"))
        forget(paths)
        reading.append(read_all(paths, direct=True))
        hashing.append(hash_memory(size))
        rounds += [[warm[-1], cold[-1]]]
    possible = size / median(hashing) / GB
    from_disc = size / median(reading) / GB
    cold_limit = min(possible, from_disc)
    rows = [
        share("verify, warm", _rate(warm, size), possible, "GB/s", 0.85, note="SHA-256, 2 threads"),
        share(
            "verify, cold",
            _rate(cold, size),
            cold_limit,
            "GB/s",
            0.85,
            note=f"direct read {from_disc:.2f} GB/s"
            + ("; SHA-256 is the limit" if cold_limit == possible else ""),
        ),
        Row("verify: CPU", median([one.cpu_s for one in warm]) / size * GB, "CPU-s/GB", ""),
    ]
    whole = Rival(ours.NAME, lambda: ours.verify_job(bundle), lambda: "")
    bench.keep("verify", rounds, rows, whole)


def hash_memory(size_bytes: int) -> float:
    """Seconds that two threads need to hash so many bytes which are in memory."""
    block = bytes(_BLOCK)

    def work(count: int) -> None:
        found = hashlib.sha256()
        for _ in range(count):
            found.update(block)

    begin = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, [size_bytes // _BLOCK // THREADS] * THREADS))
    return time.monotonic() - begin


def read_all(paths: Sequence[Path], *, direct: bool) -> float:
    """Seconds to read the files, two at once, past the page cache when ``direct``."""

    def work(path: Path) -> None:
        with aligned_buffer(_BLOCK) as buffer:
            flags = os.O_RDONLY
            descriptor = open_direct(path, flags) if direct else os.open(path, flags)
            try:
                while os.readv(descriptor, [buffer]) == _BLOCK:
                    pass
            finally:
                os.close(descriptor)

    begin = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, sorted(paths, key=lambda path: -path.stat().st_size)))
    return time.monotonic() - begin


def forget(paths: Iterable[Path]) -> None:
    """Out of the page cache with these files, and with nobody else's."""
    os.sync()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _verify(bench: Bench, bundle: SmallBundle, how: str) -> Run:
    job = ours.verify_job(bundle)
    done = run(bench.place, f"perimeter ({how})", job.argv, environment=job.environment)
    bench.say(f"verify, {how}: {done.wall_s:.2f} s, CPU {done.cpu_s:.2f} s {done.status or ''}")
    return done


def _rate(runs: Sequence[Run], size_bytes: int) -> float:
    counted = [one.wall_s for one in runs if one.counts]
    return size_bytes / median(counted) / GB if counted else 0.0
