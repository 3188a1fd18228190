"""What is measured: each task sets the stage, lets the tools take turns, and gives rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks import check, ours
from benchmarks.content import ImageSet
from benchmarks.measure import Run
from benchmarks.pairs import Rival, take_turns
from benchmarks.peers import PEERS, Job, Peer
from benchmarks.place import Place
from benchmarks.profiled import Profile, profile
from benchmarks.registry import Registry, serve
from benchmarks.rows import Row, at_least, at_most, compare, for_reader, refused

GB = 1e9


@dataclass(slots=True)
class Bench:
    """One run of the benchmark, and what it found so far."""

    place: Place
    pairs: int
    busy: float  # share of the machine that others used before it began
    say: Callable[[str], None]
    rows: list[Row] = field(default_factory=list)
    runs: dict[str, list[list[Run]]] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)

    def keep(
        self,
        task: str,
        rounds: list[list[Run]],
        rows: list[Row],
        explained: Rival | None = None,
        *,
        netns: str = "",
    ) -> None:
        """Adds a task's rows, and what each tool's failure was.

        Where a goal is missed ``explained`` runs once more, and says where its CPU goes.
        """
        self.runs[task] = rounds
        for tool, problem in refused(rounds).items():
            self.say(f"{task}: {tool} does not count: {problem}")
        self.rows += rows
        for row in rows:
            self.say(f"  {row.name}: {row.ours:.3g} {row.unit}, ratio {row.ratio or 0:.2f}")
        if explained and any(row.holds is False for row in rows):
            found = profile(self.place, explained, netns=netns)
            if found:
                self.profiles[task] = found
            else:
                self.say(f"{task}: the run that was to explain it failed")

    def rivals_over_tls(self, task: str, rivals: list[Rival]) -> tuple[list[Rival], int]:
        """Ours and those that were best without TLS, if that was measured; and how many rounds."""
        before = self.runs.get(task, [])
        names = {one.tool for one in before[-1]} if len(before) > 1 else set()
        return [one for one in rivals if not names or one.name in names], max(2, self.pairs - 1)

    @property
    def wall_goal(self) -> float:
        """Collecting on a quiet machine; on a busy one it must not be slower."""
        return 1.5 if self.busy < 0.1 else 1.0


def collect(bench: Bench, wanted: ImageSet, *, tls: bool = False) -> None:
    """Registry to a folder."""
    task = "collect over HTTPS" if tls else "collect"
    with serve(bench.place, wanted.store, tls=tls) as registry:
        rivals = [our_collect(bench.place, wanted, registry)]
        rivals += [peer_collect(peer, bench.place, wanted, registry) for peer in PEERS]
        rivals, pairs = bench.rivals_over_tls("collect", rivals) if tls else (rivals, bench.pairs)
        rounds = take_turns(bench.place, rivals, pairs, say=bench.say)
        wall, cpu = compare(rounds, ours.NAME, "wall_s"), compare(rounds, ours.NAME, "cpu_s")
        size = wanted.total_bytes / GB
        rows = [
            at_least(f"{task}: time", wall, "s", bench.wall_goal),
            at_least(f"{task}: CPU", cpu, "CPU-s/GB", 1.54, per=size, note="1.54 = 1 / 0.65"),
            at_most(f"{task}: CPU of ours", cpu[0].ours / size if cpu else 0.0, "CPU-s/GB", 1.0),
        ]
        durable = compare(rounds, ours.NAME, "disc_s")
        if durable:
            rows.insert(1, for_reader(f"{task}: time until it is on the disc", durable[0], "s"))
        bench.keep(task, rounds, rows, rivals[0])


def our_collect(place: Place, wanted: ImageSet, registry: Registry) -> Rival:
    """Ours at collecting."""
    target = place.work / "target"

    def prepare() -> Job:
        return ours.collect_job(wanted, registry, place.fresh("target"), place.work)

    def problem() -> str:
        return check.layout_problem([target], wanted, target / "blobs")

    return Rival(ours.NAME, prepare, problem)


def peer_collect(peer: Peer, place: Place, wanted: ImageSet, registry: Registry) -> Rival:
    """A peer at collecting."""
    target = place.work / "target"

    def prepare() -> Job:
        return peer.collect(wanted, registry, place.fresh("target"), place)

    def problem() -> str:
        layouts, blobs = peer.layouts(target)
        return check.layout_problem(layouts, wanted, blobs)

    return Rival(peer.name, prepare, problem)
