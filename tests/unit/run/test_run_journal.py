"""The journal: what it says after any interruption."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError
from perimeter_installer.run.journal import (
    AFRESH,
    Entry,
    EntryKind,
    append,
    append_line,
    history,
    read,
)
from perimeter_installer.run.status import read_runs

BUNDLE, OTHER_BUNDLE = Digest.of_bytes(b"bundle"), Digest.of_bytes(b"another bundle")
SITE, OTHER_SITE = Digest.of_bytes(b"site"), Digest.of_bytes(b"another site")
STEPS = ("registry", "node", "containerd")


def entry(kind: EntryKind, step: str = "", **fields: Any) -> Entry:
    values: dict[str, Any] = {
        "kind": kind,
        "time": "2026-11-22T18:00:00Z",
        "run": "r1",
        "bundle": str(BUNDLE),
        "site": str(SITE),
        "release": "2026.11",
        "number": 2,
        "step": step,
        **fields,
    }
    return Entry(**values)


def whole_run(**fields: Any) -> list[Entry]:
    entries = [entry(EntryKind.RUN_STARTED, **fields)]
    for step in STEPS:
        entries.append(entry(EntryKind.STEP_STARTED, step, **fields))
        entries.append(entry(EntryKind.STEP_FINISHED, step, **fields))
    return [*entries, entry(EntryKind.RUN_FINISHED, **fields)]


@given(st.integers(min_value=0, max_value=8))
def test_a_run_cut_anywhere_goes_on_at_the_step_that_did_not_finish(kept: int) -> None:
    entries = whole_run()[:kept]
    ended = [one.step for one in entries if one.kind is EntryKind.STEP_FINISHED]
    finished = () if kept == 8 else tuple(ended)
    assert history(entries, BUNDLE, SITE).finished_steps == frozenset(finished)


@given(st.integers(min_value=0, max_value=7), st.integers(min_value=0, max_value=8))
def test_a_run_that_goes_on_may_be_cut_again(first: int, second: int) -> None:
    entries = whole_run()[:first]
    done = history(entries, BUNDLE, SITE).finished_steps
    going_on = [entry(EntryKind.RUN_STARTED, run="r2")]
    for step in STEPS:
        if step in done:
            going_on.append(entry(EntryKind.STEP_SKIPPED, step, run="r2"))
        else:
            going_on.append(entry(EntryKind.STEP_STARTED, step, run="r2"))
            going_on.append(entry(EntryKind.STEP_FINISHED, step, run="r2"))
    entries += going_on[:second]
    assert history(entries, BUNDLE, SITE).finished_steps >= done


def test_after_a_whole_run_everything_runs_again() -> None:
    found = history(whole_run(), BUNDLE, SITE)
    assert found.finished_steps == frozenset()
    assert (found.newest_number, found.newest_release) == (2, "2026.11")


@pytest.mark.parametrize(("bundle", "site"), [(OTHER_BUNDLE, SITE), (BUNDLE, OTHER_SITE)])
def test_another_bundle_or_site_goes_on_nowhere(bundle: Digest, site: Digest) -> None:
    assert history(whole_run()[:3], bundle, site).finished_steps == frozenset()


def test_what_another_bundle_did_in_between_is_not_forgotten() -> None:
    entries = [*whole_run()[:3], entry(EntryKind.STEP_STARTED, "node", bundle=str(OTHER_BUNDLE))]
    assert history(entries, BUNDLE, SITE).finished_steps == frozenset()


def test_a_run_that_begins_afresh_forgets() -> None:
    entries = [*whole_run()[:3], entry(EntryKind.RUN_STARTED, message=AFRESH)]
    assert history(entries, BUNDLE, SITE).finished_steps == frozenset()


def test_a_step_run_alone_counts_for_nothing() -> None:
    alone = [
        entry(EntryKind.RUN_STARTED, whole=False),
        entry(EntryKind.STEP_STARTED, "registry", whole=False),
        entry(EntryKind.STEP_FINISHED, "registry", whole=False),
        entry(EntryKind.RUN_FINISHED, whole=False),
    ]
    assert history(alone, BUNDLE, SITE).finished_steps == frozenset()


def test_half_of_a_newer_release_is_newer() -> None:
    entries = [*whole_run(), entry(EntryKind.STEP_STARTED, "node", number=3, release="2026.12")]
    found = history(entries, BUNDLE, SITE)
    assert (found.newest_number, found.newest_release) == (3, "2026.12")


def test_a_finished_way_back_is_accepted_afterwards() -> None:
    entries = [*whole_run(number=3, release="2026.12"), *whole_run()]
    assert history(entries, BUNDLE, SITE).newest_number == 2


def test_an_entry_survives_its_line() -> None:
    one = entry(EntryKind.STEP_FINISHED, "node", changed=3, hosts={"n1": {"ok": 4, "changed": 3}})
    assert Entry.parse(one.to_line()) == one


@settings(deadline=None)  # discs are slow at times
@given(st.integers(min_value=1, max_value=400))
def test_a_torn_last_line_is_left_out_and_overwritten(torn: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        first = entry(EntryKind.RUN_STARTED)
        append(path, first)
        line = entry(EntryKind.STEP_STARTED, "node").to_line()
        with path.open("ab") as stream:
            stream.write(line[: min(torn, len(line) - 1)])
        assert read(path) == (first,)
        second = entry(EntryKind.STEP_STARTED, "containerd")
        append(path, second)
        assert read(path) == (first, second)


def test_a_very_long_torn_line_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    append_line(path, b"{}\n")
    with path.open("ab") as stream:
        stream.write(b"x" * 20000)
    append_line(path, b"[]\n")
    assert path.read_bytes() == b"{}\n[]\n"


def test_there_is_no_journal_at_a_new_site(tmp_path: Path) -> None:
    assert read(tmp_path / "journal.jsonl") == ()
    assert history((), BUNDLE, SITE).newest_number is None


@pytest.mark.parametrize(
    "line", [b"nonsense", b"[]", b'{"kind":"dance"}', b'{"kind":"run-started"}']
)
def test_refuses_a_journal_that_is_damaged_in_the_middle(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    append(path, entry(EntryKind.RUN_STARTED))
    append_line(path, line + b"\n")
    append(path, entry(EntryKind.STEP_STARTED, "node"))
    with pytest.raises(HostError, match=r"journal\.jsonl is damaged in line 2") as raised:
        read(path)
    assert raised.value.code == "journal-damaged"


def test_the_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    append(tmp_path / "journal.jsonl", entry(EntryKind.RUN_STARTED))
    assert (tmp_path / "journal.jsonl").stat().st_mode & 0o777 == 0o600


def test_status_tells_the_finished_from_the_unfinished_run() -> None:
    installed, unfinished = read_runs(whole_run(user="ina"))
    assert installed is not None and installed.user == "ina"
    assert unfinished is None
    later = [
        entry(EntryKind.RUN_STARTED, run="r2"),
        entry(EntryKind.STEP_STARTED, "node", run="r2"),
    ]
    installed, unfinished = read_runs([*whole_run(), *later])
    assert installed is not None and installed.run == "r1"
    assert unfinished is not None and (unfinished.run, unfinished.step) == ("r2", "node")
