"""The state folder, its lock and the audit log; what status makes of nodes and pods."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from perimeter_bundle.model.errors import HostError
from perimeter_installer.run.audit import audited, user_name
from perimeter_installer.run.files import replace_file
from perimeter_installer.run.state import State
from perimeter_installer.run.status import read_nodes, read_pods


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(tmp_path / ".perimeter")
    made.make()
    return made


def test_only_its_owner_sees_the_folder(state: State) -> None:
    for folder in (state.folder, state.logs, state.tools):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_two_runs_at_once_are_refused_and_the_first_is_named(state: State) -> None:
    with state.locked("apply"):
        with (
            pytest.raises(HostError, match="another run works on this site") as raised,
            state.locked("load"),
        ):
            pass
        assert raised.value.code == "already-running"
        assert raised.value.context == {"holder": f"process {os.getpid()}: apply"}
    with state.locked("load"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot make the state folder") as raised:
        State(tmp_path / "file" / "state").make()
    assert raised.value.code == "cannot-write"


def test_the_audit_log_tells_success_failure_and_interrupt(state: State) -> None:
    with audited(state, "load", "2026.11", "sha256:x"):
        pass
    with pytest.raises(HostError), audited(state, "load", "2026.11", "sha256:x"):
        raise HostError("registry-full", "no room on n1")
    with pytest.raises(KeyboardInterrupt), audited(state, "apply", "2026.11", "sha256:x"):
        raise KeyboardInterrupt
    lines = [json.loads(line) for line in state.audit.read_text().splitlines()]
    assert [line["result"] for line in lines] == [
        *("started", "finished", "started", "failed", "started", "interrupted")
    ]
    assert lines[3]["message"] == "registry-full: no room on n1"


def test_the_user_behind_sudo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "root")
    monkeypatch.setenv("SUDO_USER", "ina")
    assert user_name() == "ina (as root)"
    monkeypatch.delenv("SUDO_USER")
    assert user_name() == "root"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"one", mode=0o600)
    replace_file(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(HostError, match="cannot write") as raised:
        replace_file(tmp_path / "none" / "file", b"x", mode=0o600)
    assert raised.value.code == "cannot-write"


def test_nodes_are_shown_control_planes_first_with_their_trouble() -> None:
    nodes = read_nodes(
        [
            {
                "metadata": {"name": "a"},
                "status": {
                    "conditions": [{"type": "Ready", "status": "Unknown", "message": "stopped"}],
                    "nodeInfo": {"kubeletVersion": "v1.34.4"},
                },
            },
            {
                "metadata": {
                    "name": "b",
                    "labels": {"node-role.kubernetes.io/control-plane": "", "x": "y"},
                },
                "spec": {"unschedulable": True},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            },
            {"metadata": {"name": "c"}},
        ]
    )
    assert [(node.name, node.ready, node.trouble) for node in nodes] == [
        ("b", True, "cordoned: takes no new pods"),
        ("a", False, "stopped"),
        ("c", False, "it never reported"),
    ]
    assert nodes[0].roles == ("control-plane",)
    assert nodes[1].version == "v1.34.4"


def test_pods_are_counted_by_phase() -> None:
    pods = [
        {"metadata": {"name": "a", "namespace": "x"}, "status": {"phase": "Running"}},
        {"metadata": {"name": "b", "namespace": "x"}, "status": {"phase": "Pending"}},
    ]
    assert read_pods(pods) == (
        {"Pending": 1, "Running": 1},
        ("x: pod b: is not scheduled yet",),
    )
