"""What is shown while long work runs, with and without a terminal."""

from __future__ import annotations

import io
import json
import re
import threading

import pytest
from rich.console import Console

from perimeter_bundle.model.events import Event, EventKind
from perimeter_bundle.terminal.progress import ProgressMode, ProgressReporter

MIB = 1024**2


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Shown:
    """A reporter whose heart beats once for each second that passes."""

    def __init__(self, mode: ProgressMode = ProgressMode.LINES) -> None:
        self.stream, self.clock = io.StringIO(), Clock()
        console = Console(
            file=self.stream,
            width=100,
            height=12,
            highlight=False,
            markup=False,
            soft_wrap=True,
            force_terminal=mode is ProgressMode.BARS,
        )
        self.reporter = ProgressReporter(console, mode, clock=self.clock, heartbeat=False)
        self._read = 0

    def tell(self, kind: EventKind, task: str, message: str = "", **more: object) -> None:
        self.reporter.on_event(Event(kind, task, message, **more))  # type: ignore[arg-type]

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now_s += 1
            self.reporter.tick()

    def lines(self) -> list[str]:
        """What was written since the last call."""
        text = self.stream.getvalue()[self._read :]
        self._read += len(text)
        return text.splitlines()

    def screen(self) -> str:
        """The last drawing, without what moves the cursor and without the spinner."""
        self.lines()
        self.reporter.tick()
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", "\n".join(self.lines()))
        return re.sub(r"[⠀-⣿\r]", "", text)


def ansible(shown: Shown, host: str, task: str, *where: str) -> None:
    """A host begins a task of step kubernetes, which now runs on ``where``."""
    shown.tell(EventKind.PROGRESS, f"kubernetes/{host}", f"kubernetes: {task}", done_items=3)
    shown.tell(EventKind.PROGRESS, "kubernetes", task, where=where)


def test_a_step_says_its_task_its_hosts_and_how_long_it_goes_on() -> None:
    shown = Shown()
    shown.tell(EventKind.START, "kubernetes", "runs")
    shown.passes(60)
    shown.lines()
    ansible(shown, "n1", "Node has joined", "n1")
    ansible(shown, "n2", "Node has joined", "n1", "n2")
    shown.passes(2)
    shown.tell(EventKind.PROGRESS, "kubernetes", "Node has joined", where=("n2",))
    shown.passes(10)
    assert shown.lines() == [
        "  kubernetes: Node has joined (n1, n2), 1 min 1 s",
        "  kubernetes: Node has joined (n2), 1 min 11 s",
    ]


def test_a_fast_play_does_not_flood_and_its_last_task_is_told() -> None:
    shown = Shown()
    shown.tell(EventKind.START, "kubernetes", "runs")
    for number in range(20):
        ansible(shown, "n1", f"Task {number}", "n1")
        shown.clock.now_s += 0.1
    shown.passes(3)
    assert shown.lines() == ["  kubernetes: Task 19 (n1), 2 s"]


def test_a_silent_task_shows_life_every_ten_seconds_and_no_more() -> None:
    shown = Shown()
    shown.tell(EventKind.START, "facts/n1")
    shown.passes(35)
    assert shown.lines() == [f"  facts/n1, {seconds} s" for seconds in (10, 20, 30)]


@pytest.mark.parametrize("ending", [EventKind.FINISH, EventKind.SKIP, EventKind.FAIL])
def test_a_step_that_is_over_leaves_no_host_behind(ending: EventKind) -> None:
    shown = Shown()
    shown.tell(EventKind.START, "kubernetes", "runs")
    ansible(shown, "n1", "Node has joined", "n1")
    shown.tell(ending, "kubernetes")
    shown.lines()
    shown.passes(60)
    assert shown.lines() == []


def test_hosts_alone_of_a_step_speak_for_themselves() -> None:
    shown = Shown()
    shown.tell(EventKind.PROGRESS, "load/n1", "asks", done_items=3)
    shown.passes(3)
    assert shown.lines() == ["  load/n1: asks, 2 s"]


def test_bytes_have_a_speed_and_an_end_in_sight() -> None:
    shown = Shown()
    shown.tell(EventKind.START, "registry/n1", "3 of 9 blobs to send", total_bytes=1000 * MIB)
    for second in range(12):
        shown.tell(EventKind.PROGRESS, "registry/n1", done_bytes=second * 40 * MIB)
        shown.passes(1)
    assert shown.lines() == [
        "  registry/n1: 360.0 of 1000.0 MiB, 36.0 MiB/s, about 16 s left",
    ]


def test_replicas_that_count_their_blobs_speak_each_for_itself() -> None:
    shown = Shown()
    for node in ("n1", "n2"):
        shown.tell(
            EventKind.START,
            f"registry/{node}",
            done_bytes=0,
            total_bytes=100 * MIB,
            done_items=0,
            total_items=9,
            host=node,
        )
    for second in range(12):
        shown.passes(1)
        for node in ("n1", "n2"):
            shown.tell(
                EventKind.PROGRESS,
                f"registry/{node}",
                done_bytes=second * MIB,
                done_items=second // 4,
                host=node,
            )
    first, second_line = shown.lines()
    assert first.startswith("  registry/n1: 8.0 of 100.0 MiB, 2 of 9 files, ")
    assert second_line.startswith("  registry/n2: 8.0 of 100.0 MiB, 2 of 9 files, ")
    shown.tell(EventKind.FINISH, "registry/n1", "9 blobs sent", done_bytes=9000)
    assert shown.lines()[-1].startswith("  done registry/n1: 9 blobs sent, 8.8 KiB")


def test_bytes_that_do_not_come_are_said_not_to_come() -> None:
    shown = Shown()
    shown.tell(EventKind.START, "quay.io/a/b:1", done_bytes=0, total_bytes=2 * MIB)
    shown.tell(EventKind.PROGRESS, "quay.io/a/b:1", done_bytes=MIB)
    shown.passes(30)
    assert shown.lines()[-1] == "  quay.io/a/b:1: 1.0 of 2.0 MiB, nothing for 30 s"


def two_hosts(shown: Shown, seconds: int) -> None:
    """A fetch from two hosts, of which the first sends nothing."""
    whole = {"done_bytes": 0, "total_bytes": 500 * MIB, "done_items": 0, "total_items": 9}
    shown.tell(EventKind.START, "fetch", **whole)
    for host in ("quay.io", "ghcr.io"):
        total = {"done_bytes": 0, "total_bytes": 200 * MIB}
        shown.tell(EventKind.START, f"{host}/a/b@1", host=host, **total)
    for second in range(seconds):
        shown.passes(1)
        shown.tell(EventKind.PROGRESS, "ghcr.io/a/b@1", done_bytes=second * MIB, host="ghcr.io")


@pytest.mark.parametrize("mode", [ProgressMode.LINES, ProgressMode.BARS])
def test_a_host_that_sends_nothing_while_others_go_on_is_named(mode: ProgressMode) -> None:
    shown = Shown(mode)
    with shown.reporter:
        two_hosts(shown, 32)
        screen = shown.screen() if mode is ProgressMode.BARS else ""
    text = screen if mode is ProgressMode.BARS else "\n".join(shown.lines())
    assert f"stalled: quay.io for {32 if mode is ProgressMode.BARS else 30} s" in text
    assert "ghcr.io for" not in text


def test_a_host_that_goes_on_is_no_longer_called_stalled() -> None:
    shown = Shown()
    two_hosts(shown, 32)
    shown.lines()
    shown.tell(EventKind.PROGRESS, "quay.io/a/b@1", done_bytes=MIB, host="quay.io")
    two_hosts(shown, 9)
    assert "stalled" not in "\n".join(shown.lines())


def test_when_no_host_sends_anything_none_is_blamed() -> None:
    shown = Shown()
    two_hosts(shown, 2)
    shown.passes(30)
    assert "stalled" not in "\n".join(shown.lines())


def test_a_host_with_nothing_left_to_send_is_not_stalled() -> None:
    shown = Shown()
    two_hosts(shown, 2)
    shown.tell(EventKind.FINISH, "quay.io/a/b@1", done_bytes=200 * MIB, host="quay.io")
    for second in range(30):
        shown.passes(1)
        shown.tell(EventKind.PROGRESS, "ghcr.io/a/b@1", done_bytes=(second + 5) * MIB)
    assert "stalled" not in "\n".join(shown.lines())


def test_a_replica_that_takes_nothing_is_named_beside_those_that_do() -> None:
    shown = Shown()
    for node in ("n1", "n2"):
        shown.tell(EventKind.START, f"registry/{node}", total_bytes=900 * MIB, host=node)
    shown.tell(EventKind.PROGRESS, "registry/n2", done_bytes=MIB, host="n2")
    for second in range(32):
        shown.passes(1)
        shown.tell(EventKind.PROGRESS, "registry/n1", done_bytes=second * MIB, host="n1")
    assert any("stalled: n2 for" in line for line in shown.lines())


def test_lines_do_not_grow_with_events() -> None:
    """A line for each event would fill a log: 36 000 events in an hour give some hundred lines."""
    shown = Shown()
    shown.tell(EventKind.START, "fetch", done_bytes=0, total_bytes=10**12, total_items=9999)
    for second in range(3600):
        for tenth in range(10):
            done = (second * 10 + tenth) * MIB
            shown.tell(EventKind.PROGRESS, "fetch", done_bytes=done, done_items=second)
        shown.passes(1)
    assert len(shown.lines()) <= 361


def test_a_download_that_started_over_counts_afresh() -> None:
    shown = Shown()
    shown.tell(EventKind.START, "a", done_bytes=90 * MIB, total_bytes=100 * MIB)
    shown.passes(5)
    shown.tell(EventKind.PROGRESS, "a", done_bytes=0)
    shown.passes(4)
    shown.tell(EventKind.PROGRESS, "a", done_bytes=10 * MIB)
    shown.passes(1)
    assert shown.lines() == ["  a: 10.0 of 100.0 MiB, 2.0 MiB/s, about 36 s left"]


def test_files_are_told_by_their_total_and_small_ones_are_counted_only() -> None:
    shown = Shown()
    size = 60 * MIB
    shown.tell(
        EventKind.START, "fetch", done_bytes=0, total_bytes=size, done_items=0, total_items=5
    )
    shown.tell(EventKind.START, "big", done_bytes=0, total_bytes=50 * MIB)
    shown.tell(EventKind.START, "small", done_bytes=0, total_bytes=500)
    shown.tell(EventKind.FINISH, "small", done_bytes=500, total_bytes=500)
    shown.tell(EventKind.SKIP, "had", done_bytes=9, total_bytes=9)
    shown.tell(EventKind.PROGRESS, "fetch", done_bytes=509, done_items=2)
    for second in range(10):
        shown.passes(1)
        shown.tell(EventKind.PROGRESS, "big", done_bytes=(second + 1) * 3 * MIB)
    shown.tell(EventKind.FINISH, "big", done_bytes=50 * MIB, total_bytes=50 * MIB)
    shown.tell(EventKind.FINISH, "fetch", done_bytes=size, total_bytes=size, total_items=5)
    assert shown.lines() == [
        "  fetch: 27.0 of 60.0 MiB, 2 of 5 files, 2.7 MiB/s, about 11 s left",
        "  done big, 50.0 MiB (10 s)",
        "  done fetch, 60.0 MiB, 5 files, 2 of them small and not listed (10 s)",
    ]


def test_a_small_file_alone_is_listed() -> None:
    shown = Shown()
    shown.tell(EventKind.START, "SHA256SUMS", done_bytes=0, total_bytes=500)
    shown.tell(EventKind.FINISH, "SHA256SUMS", done_bytes=500, total_bytes=500)
    assert shown.lines() == ["  done SHA256SUMS, 500 B"]


def test_of_a_crowd_the_one_that_changed_last_speaks() -> None:
    shown = Shown()
    for number in range(30):
        shown.tell(EventKind.START, f"facts/n{number}", "asks")
    shown.tell(EventKind.PROGRESS, "facts/n7", "hears")
    shown.passes(1)
    shown.tell(EventKind.PROGRESS, "facts/n9", "hears")
    shown.passes(15)
    assert shown.lines() == ["  facts/n9: hears, 10 s (and 29 more)"]


def test_what_ended_is_told_with_its_time_and_its_message() -> None:
    shown = Shown()
    shown.tell(EventKind.START, "a")
    shown.clock.now_s += 3
    shown.tell(EventKind.FINISH, "a", total_bytes=1024)
    shown.tell(EventKind.SKIP, "b", "finished by an earlier run")
    shown.tell(EventKind.FAIL, "facts/n3", "n3 does not answer")
    assert shown.lines() == [
        "  done a, 1.0 KiB (3 s)",
        "  have b: finished by an earlier run",
        "  failed facts/n3: n3 does not answer",
    ]


def test_a_note_that_names_its_task_does_not_say_it_twice() -> None:
    shown = Shown()
    shown.tell(EventKind.NOTE, "quay.io/a/b:1", "asking for quay.io/a/b:1")
    shown.tell(EventKind.NOTE, "", "listing")
    assert shown.lines() == ["asking for quay.io/a/b:1", "listing"]


def test_json_progress_is_one_object_a_line_that_says_where() -> None:
    shown = Shown(ProgressMode.JSON)
    shown.tell(EventKind.START, "a", total_items=2)
    shown.tell(EventKind.PROGRESS, "node", "Swap is off", where=("n1", "n2"))
    assert [json.loads(line) for line in shown.lines()] == [
        {"kind": "start", "task": "a", "total_items": 2},
        {"kind": "progress", "task": "node", "message": "Swap is off", "where": ["n1", "n2"]},
    ]


def test_quiet_shows_warnings_and_failures_only() -> None:
    shown = Shown(ProgressMode.QUIET)
    shown.tell(EventKind.NOTE, "", "nothing")
    shown.tell(EventKind.WARNING, "lock", "a tag moved")
    shown.tell(EventKind.FAIL, "facts/n3", "n3 does not answer")
    shown.tell(EventKind.FAIL, "node")  # the error that follows says it
    assert shown.lines() == ["warning: lock: a tag moved", "failed facts/n3: n3 does not answer"]


def test_a_terminal_has_a_line_for_each_host_with_role_and_task() -> None:
    shown = Shown(ProgressMode.BARS)
    with shown.reporter:
        shown.tell(EventKind.START, "kubernetes", "runs")
        shown.clock.now_s += 5
        ansible(shown, "n1", "Node has joined", "n1")
        ansible(shown, "n2", "Node has joined", "n1", "n2")
        shown.tell(EventKind.PROGRESS, "kubernetes", "Node has joined", where=("n2",))
        shown.clock.now_s += 7
        rows = [line.split() for line in shown.screen().splitlines()]
        shown.tell(EventKind.FINISH, "kubernetes", "2 changed on 2 hosts")
    assert "  done kubernetes: 2 changed on 2 hosts (12 s)" in shown.stream.getvalue()
    assert ["kubernetes", "12", "s"] in rows
    assert [
        "n1",
        "kubernetes:",
        "Node",
        "has",
        "joined:",
        "done,",
        "waits",
        "for",
        "others",
    ] in rows
    assert ["n2", "kubernetes:", "Node", "has", "joined,", "7", "s"] in rows


def test_a_terminal_has_bars_for_bytes_and_never_more_lines_than_fit() -> None:
    shown = Shown(ProgressMode.BARS)
    with shown.reporter:
        for number in range(30):
            shown.tell(EventKind.START, f"blob-{number}", done_bytes=0, total_bytes=4 * MIB)
            shown.tell(EventKind.PROGRESS, f"blob-{number}", done_bytes=MIB)
        screen = shown.screen()
    rows = [line for line in screen.splitlines() if line.strip()]
    assert len(rows) == 10
    assert re.search(r"blob-0 +━+╺?━* 1\.0 of 4\.0 MiB", rows[0])
    assert rows[-1].strip() == "… and 21 more"


def test_a_long_line_is_cut_instead_of_broken() -> None:
    shown = Shown(ProgressMode.BARS)
    with shown.reporter:
        shown.tell(EventKind.START, "x" * 200, "y" * 200)
        rows = [line for line in shown.screen().splitlines() if line.strip()]
    assert len(rows) == 1
    assert len(rows[0]) <= 100


def test_a_terminal_takes_events_from_many_threads() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=200, force_terminal=True, highlight=False)
    shown = ProgressReporter(console, ProgressMode.BARS)

    def work(name: str) -> None:
        shown.on_event(Event(EventKind.START, name, total_bytes=10))
        for done in range(10):
            shown.on_event(Event(EventKind.PROGRESS, name, done_bytes=done))
        shown.on_event(Event(EventKind.FINISH, name))

    with shown:
        threads = [threading.Thread(target=work, args=(f"blob-{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(f"done blob-{n}" in stream.getvalue() for n in range(8))
