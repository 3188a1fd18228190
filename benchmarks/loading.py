"""A bundle into registries: an empty one, and one that has everything already."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.support.bundles import SmallBundle

from benchmarks import check, ours
from benchmarks.content import HOST, ImageSet
from benchmarks.pairs import Rival, take_turns
from benchmarks.peers import PEERS, Job, Peer
from benchmarks.place import Place
from benchmarks.registry import Registry, serve
from benchmarks.rows import Row, at_least, at_most, compare
from benchmarks.tasks import GB, Bench

BY_OURS = f"{HOST}/"  # under which ours puts what it loads
_JobOf = Callable[[Registry], Job]


@dataclass(slots=True)
class Loading:
    """One tool into a fresh registry, again and again."""

    place: Place
    wanted: ImageSet
    tls: bool
    prefix: str
    job_of: _JobOf
    stack: ExitStack = field(default_factory=ExitStack)
    registry: Registry | None = None

    def prepare(self) -> Job:
        """A registry that holds nothing, and the tool's command."""
        store = self.place.fresh("store")
        self.registry = self.stack.enter_context(serve(self.place, store, tls=self.tls))
        return self.job_of(self.registry)

    def problem(self) -> str:
        """What the registry lacks."""
        assert self.registry
        return check.store_problem(self.registry.store, self.wanted, self.prefix)


def load(bench: Bench, wanted: ImageSet, bundle: SmallBundle, *, tls: bool = False) -> None:
    """A folder to an empty registry."""
    task = "load over HTTPS" if tls else "load"
    rivals = []
    for name, prefix, job_of in _tools(bench.place, wanted, bundle):
        one = Loading(bench.place, wanted, tls, prefix, job_of)
        rivals.append(Rival(name, one.prepare, one.problem, one.stack.close))
    rivals, pairs = bench.rivals_over_tls("load", rivals) if tls else (rivals, bench.pairs)
    rounds = take_turns(bench.place, rivals, pairs, say=bench.say)
    wall, cpu = compare(rounds, ours.NAME, "wall_s"), compare(rounds, ours.NAME, "cpu_s")
    size = wanted.total_bytes / GB
    rows = [
        at_least(f"{task}: time", wall, "s", 1.5),
        at_most(f"{task}: CPU of ours", cpu[0].ours / size if cpu else 0.0, "CPU-s/GB", 0.35),
    ]
    rows += [_for_reader(f"{task}: CPU of the best peer", cpu[0].theirs / size)] if cpu else []
    bench.keep(task, rounds, rows, rivals[0])


def load_again(bench: Bench, wanted: ImageSet, bundle: SmallBundle, *, tls: bool = False) -> None:
    """Everything is there already."""
    task = "load again over HTTPS" if tls else "load again"
    if len(wanted.blobs) > 900:
        task += f", {len(wanted.blobs)} blobs"
    with serve(bench.place, wanted.store, tls=tls) as registry:
        rivals = []
        for name, prefix, job_of in _tools(bench.place, wanted, bundle):
            rivals.append(_repeat(name, prefix, job_of, registry, wanted))
        take_turns(bench.place, rivals[:1], 1)  # the bundle holds a few things beside the set
        rounds = take_turns(bench.place, rivals, bench.pairs, say=bench.say)
        wall = compare(rounds, ours.NAME, "wall_s")
        rows = [at_least(f"{task}: time", wall, "s", 5.0)]
        if wall and len(wanted.blobs) > 900:
            each = wall[0].ours / len(wanted.blobs) * 1000
            rows.append(at_most(f"{task}: for 1000 blobs", each, "s", 1.0))
        bench.keep(task, rounds, rows, rivals[0])


def _repeat(name: str, prefix: str, job_of: _JobOf, registry: Registry, wanted: ImageSet) -> Rival:
    return Rival(
        name,
        lambda: job_of(registry),
        lambda: check.store_problem(registry.store, wanted, prefix, hashed=False),
    )


def _tools(place: Place, wanted: ImageSet, bundle: SmallBundle) -> list[tuple[str, str, _JobOf]]:
    views = bundle.root.parent / "views"
    found: list[tuple[str, str, _JobOf]] = [
        (ours.NAME, BY_OURS, lambda registry: ours.load_job(bundle, registry, place.work / "site"))
    ]
    for peer in PEERS:

        def job_of(registry: Registry, peer: Peer = peer) -> Job:
            return peer.load(wanted, registry, views, place)

        found.append((peer.name, "", job_of))
    return found


def _for_reader(name: str, value: float) -> Row:
    return Row(name, value, "CPU-s/GB", "")
