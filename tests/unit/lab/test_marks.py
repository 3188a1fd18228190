"""The lab recognises its own traces, and takes nothing else for its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.lab import LabError
from tests.lab.base import Recipe
from tests.lab.cleanup import summary
from tests.lab.lab import Lab, clean
from tests.lab.network import _read_watch, port_of
from tests.lab.state import DEFAULT_STATE, Process, StateFolder, read_json, write_json
from tests.lab.supervise import nspawn_argv


def test_process_with_recycled_id_is_not_ours(tmp_path: Path) -> None:
    process = Process.of(os.getpid())
    assert process is not None and process.alive()
    record = tmp_path / "process.json"
    process.write(record)
    assert Process.read(record) == process
    Process(process.pid, process.started - 1).write(record)
    assert Process.read(record) is None


def test_ended_process_is_gone_even_before_it_is_reaped(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = Process.of(child.pid)
    assert process is not None
    process.end()
    assert not process.alive()
    child.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "started": 1}'])
def test_broken_record_names_no_process(tmp_path: Path, text: str) -> None:
    record = tmp_path / "process.json"
    record.write_text(text)
    assert Process.read(record) is None


def test_labs_in_different_folders_share_no_name(tmp_path: Path) -> None:
    usual, other = StateFolder(DEFAULT_STATE), StateFolder(tmp_path)
    assert usual.namespace("swb") == "pl-swb"
    assert not other.namespace("swb").startswith("pl-")
    assert other.tag == StateFolder(tmp_path).tag


def test_only_one_process_changes_a_lab(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    refusal = pytest.raises(LabError, match="another process is changing the lab")
    with state.locked(), refusal, state.locked():
        pass
    with state.locked():
        pass


def test_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder/value.json"
    write_json(path, {"b": 1, "a": [2]})
    assert read_json(path) == {"a": [2], "b": 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["value.json"]


def test_machines_have_fixed_places() -> None:
    places = {name: port_of(name).address for name in ("upstream", "builder", "jump", "n1", "n12")}
    assert places == {
        "upstream": "172.30.1.2",
        "builder": "172.30.1.10",
        "jump": "10.99.0.2",
        "n1": "10.99.0.11",
        "n12": "10.99.0.22",
    }
    assert port_of("n1").hardware_address == "02:00:0a:63:00:0b"
    for wrong in ("n0", "n201", "n", "node1", "n1x", ""):
        with pytest.raises(LabError, match="no such machine"):
            port_of(wrong)


def test_counters_are_read_from_what_nft_prints() -> None:
    element = {"val": {"concat": ["10.99.0.11", "192.0.2.1"]}, "counter": {"packets": 3}}
    listing: list[dict[str, Any]] = [
        {"table": {"name": "perimeter_lab"}},
        {"counter": {"name": "watched", "packets": 9}},
        {"counter": {"name": "outside_ipv4", "packets": 3}},
        {"set": {"name": "attempts", "elem": [{"elem": element}]}},
    ]
    assert _read_watch(listing) == {
        "packets": {"watched": 9, "outside_ipv4": 3},
        "attempts": [{"from": "10.99.0.11", "to": "192.0.2.1", "packets": 3}],
    }
    assert _read_watch([{"set": {"name": "attempts"}}])["attempts"] == []


def test_recipe_of_other_content_has_another_digest() -> None:
    recipe = Recipe()
    assert recipe.digest("6.1") == Recipe().digest("6.1")
    changed = [Recipe(packages=(*recipe.packages, "vim")), Recipe(init="#!/bin/sh\n")]
    digests = {r.digest("6.1") for r in [recipe, *changed]} | {recipe.digest("6.2")}
    assert len(digests) == 4


def test_node_may_not_move_the_hosts_clock() -> None:
    argv = nspawn_argv("n1", Path("/root-of-node"), "/run/netns/pl-n1")
    assert "--drop-capability=CAP_SYS_TIME" in argv
    assert "--network-namespace-path=/run/netns/pl-n1" in argv


def test_summary_counts_by_kind() -> None:
    found = ["process 1", "process 2", "network namespace pl-n1"]
    assert summary(found) == "process: 2, network namespace: 1"


def used_by_another(folder: Path) -> subprocess.Popen[str]:
    """A process that uses the lab in ``folder`` until its input ends."""
    code = "import sys; from pathlib import Path; from tests.lab.state import StateFolder;"
    code += " StateFolder(Path(sys.argv[1])).use(); print('used', flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", code, str(folder)]
    other = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "used\n"
    return other


def test_a_lab_in_use_is_neither_built_up_nor_taken_down(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    write_json(state.config, {"names": ["n1"], "gateway": "none"})
    disk = state.node("n1") / "disk.img"
    disk.parent.mkdir(parents=True)
    disk.write_text("content of the node")
    with used_by_another(tmp_path) as other:
        for attempt in (lambda one: Lab.up(state=one), clean, Lab.down_anyway):
            with pytest.raises(LabError, match=f"in use by process {other.pid}; wait until"):
                attempt(state)
        assert disk.read_text() == "content of the node"
        assert state.config.exists()
        assert StateFolder(tmp_path / "beside").use() is None
        other.kill()
    state.use()
    state.use()  # the same process may build it up anew
    state.give_back()


def test_a_lab_given_back_is_free_for_others(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.use()
    state.give_back()
    with used_by_another(tmp_path) as other:
        with pytest.raises(LabError, match="PERIMETER_LAB_STATE"):
            state.use()
        other.kill()
