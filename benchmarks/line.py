"""A line of 1 Gbit/s with 30 ms there and back: two network namespaces of our own and a relay.

Not every kernel has netem, so the rate is tbf's and the delay a relay's, which stands
at the client's end: so a client speaks to loopback, as everywhere else in the benchmark.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.host import command
from tests.support.distribution import free_port

from benchmarks import ours
from benchmarks.content import ImageSet
from benchmarks.pairs import take_turns
from benchmarks.peers import PEERS
from benchmarks.place import BenchError, Place
from benchmarks.registry import Registry, serve, started
from benchmarks.rows import Row, at_least, compare, refused, share
from benchmarks.tasks import Bench, our_collect, peer_collect

RATE_BITS = 1_000_000_000
DELAY_S = 0.03
FAIL_EVERY = 50
PATIENCE_S = 300  # with a tool on the poor line, where ours takes about a minute
CONNECTIONS = 4
PROBE_BYTES = 100 << 20  # over each connection
FAR = "10.99.77.2"
NEAR = "10.99.77.1"
_PORTS = {"registry": 5100, "probe": 5101}  # of the relays, in a namespace where nobody else is


@dataclass(frozen=True, slots=True)
class Line:
    """Both ends: the client's namespace and the server's."""

    near: str
    far: str


def collect_far(bench: Bench, wanted: ImageSet, *, tls: bool = False) -> None:
    """Many small blobs, collected over the line."""
    place, task = bench.place, "line over HTTPS" if tls else "line"
    with (
        open_line(place) as line,
        serve(place, wanted.store, tls=tls, host=FAR, netns=line.far) as far,
    ):
        address = relayed("registry")
        with (
            helper(place, line.near, "relay", address, far.address, str(DELAY_S)),
            helper(place, line.far, "source", f"{FAR}:5200", str(PROBE_BYTES)),
            helper(place, line.near, "relay", relayed("probe"), f"{FAR}:5200", str(DELAY_S)),
        ):
            wait_for(line, address)
            possible = _probe(line)
            bench.say(f"the line carries {possible / 1e6:.1f} MB/s")
            near = Registry(address, wanted.store, far.ca_file)
            rivals = [our_collect(place, wanted, near)]
            rivals += [peer_collect(peer, place, wanted, near) for peer in PEERS]
            if tls:
                rivals, _ = bench.rivals_over_tls("line", rivals)
            rounds = take_turns(place, rivals, 2, netns=line.near, timeout_s=120, say=bench.say)
            again = _probe(line)
            wall = compare(rounds, ours.NAME, "wall_s")
            mine = [
                run for members in rounds for run in members if run.tool == ours.NAME and run.counts
            ]
            size_mb = wanted.total_bytes / 1e6
            name = f"{task}, 1 Gbit/s, 30 ms: {len(wanted.blobs)} blobs"
            rate = size_mb / min(run.wall_s for run in mine) if mine else 0.0
            note = f"plain transfer {possible / 1e6:.0f} and {again / 1e6:.0f} MB/s"
            rows = [share(f"{name}, of the line", rate, possible / 1e6, "MB/s", 0.95, note=note)]
            if wall:
                best = wall[0]
                rows.append(
                    Row(
                        f"{name}, beside",
                        *(size_mb / best.ours, "MB/s", "", best.ratio),
                        *(best.peer, size_mb / best.theirs),
                    )
                )
            bench.keep(task, rounds, rows, rivals[0], netns=line.near)


def collect_poor(bench: Bench, wanted: ImageSet) -> None:
    """Through a relay of 30 ms which answers one request in fifty with an error."""
    place = bench.place
    address = f"127.0.0.1:{free_port()}"
    with (
        serve(place, wanted.store) as registry,
        helper(place, "", "relay", address, registry.address, str(DELAY_S), str(FAIL_EVERY)),
    ):
        poor = Registry(address, wanted.store)
        rivals = [our_collect(place, wanted, poor)]
        rivals += [peer_collect(peer, place, wanted, poor) for peer in PEERS]
        time.sleep(1)  # no question to the relay: it would count as a request
        rounds = take_turns(place, rivals, min(2, bench.pairs), timeout_s=PATIENCE_S, say=bench.say)
    wall = compare(rounds, ours.NAME, "wall_s")
    name = f"30 ms, one request in {FAIL_EVERY} fails: {len(wanted.blobs)} blobs"
    lost = sorted(refused(rounds))
    note = f"not whole within {PATIENCE_S} s: {', '.join(lost)}" if lost else ""
    row = at_least(name, wall, "s", 1.0, note=note)
    if not wall and ours.NAME not in lost:  # nobody to stand beside: all we know is how long not
        took_s = rounds[0][0].wall_s
        ratio = PATIENCE_S / took_s
        row = Row(name, took_s, "s", row.goal, ratio, "none", None, holds=True, note=note)
    bench.keep("poor", rounds, [row])


def relayed(what: str) -> str:
    """Where a relay listens, in the client's namespace."""
    return f"127.0.0.1:{_PORTS[what]}"


@contextlib.contextmanager
def open_line(place: Place, rate_bits: int = RATE_BITS) -> Iterator[Line]:
    """The two namespaces and the cable; gone after the block."""
    line = Line(place.namespace("near"), place.namespace("far"))
    known = place.folder / "namespaces"
    known.write_text(f"{line.near}\n{line.far}\n")  # before they are there: see place._clear
    try:
        for name in (line.near, line.far):
            command(["ip", "netns", "add", name])
            _ip(name, "link set lo up")
        _ip(line.far, f"link add eth0 type veth peer name eth0 netns {line.near}")
        for name, address in ((line.near, NEAR), (line.far, FAR)):
            _ip(name, f"addr add {address}/30 dev eth0")
            _ip(name, "link set eth0 up")
            shaping = f"tc qdisc add dev eth0 root tbf rate {rate_bits} burst 256kb limit 8mb"
            command(["nsenter", f"--net=/run/netns/{name}", *shaping.split()])
        yield line
    finally:
        for name in (line.near, line.far):
            command(["ip", "netns", "del", name], check=False)
        known.unlink(missing_ok=True)


@contextlib.contextmanager
def helper(place: Place, netns: str, *words: str) -> Iterator[None]:
    """benchmarks.relay with these words, in a namespace; ended after the block."""
    argv = [sys.executable, "-m", "benchmarks.relay", *words]
    with started(place, argv, place.work / "relay.log", netns):
        yield


def wait_for(line: Line, address: str) -> None:
    """Returns when somebody listens there, in the client's namespace."""
    host, _, port = address.rpartition(":")
    code = f"import socket; socket.create_connection(({host!r}, {port}), 2)"
    deadline = time.monotonic() + 10
    words = ["nsenter", f"--net=/run/netns/{line.near}", sys.executable, "-c", code]
    while subprocess.run(words, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise BenchError(f"the relay does not answer at {address}")
        time.sleep(0.1)


def _probe(line: Line) -> float:
    """Bytes a second of a plain transfer."""
    host, _, port = relayed("probe").rpartition(":")
    words = ["-m", "benchmarks.relay", "drain", f"{host}:{port}", str(CONNECTIONS)]
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{line.near}", sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[1],
        check=False,
    )
    if done.returncode:
        raise BenchError(f"the plain transfer failed: {done.stderr[-500:]}")
    return PROBE_BYTES * CONNECTIONS / float(done.stdout)


def _ip(space: str, arguments: str) -> None:
    command(["ip", "-n", space, *arguments.split()])
