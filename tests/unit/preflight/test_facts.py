"""What hosts say is read with care: they may be broken, or somebody else's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import perimeter_installer.preflight as package
from perimeter_bundle.model.errors import HostError
from perimeter_installer.preflight.facts import HostFacts, clock_offset, parse_facts

SCRIPT = Path(package.__file__).parent / "remote_facts.py"
REQUEST = {
    "config": {
        "paths": ["/", "/nowhere/below"],
        "registry": ["/nowhere"],
        "ports": [],
        "programs": ["sh", "perimeter-no-such-program"],
        "modules": [],
        "leftovers": ["/proc/self", "/nowhere"],
        "processes": [],
        "names": [],
    },
    "peers": [],
}


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    """What the script really prints on this machine."""
    done = subprocess.run(
        [sys.executable, "-I", "-", json.dumps(REQUEST)],
        input=SCRIPT.read_bytes(), capture_output=True, check=True,
    )  # fmt: skip
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def parse(value: object) -> HostFacts:
    return parse_facts(json.dumps(value).encode(), sent_at=0, received_at=1e12)


def test_every_field_comes_from_the_script(answer: dict[str, Any]) -> None:
    facts = parse(answer)
    assert facts.failed == {}
    assert facts.missing_programs == ("perimeter-no-such-program",)
    assert facts.leftovers == ("/proc/self",)
    assert [disc.path for disc in facts.discs] == ["/", "/nowhere/below"]
    assert facts.discs[0].device == facts.discs[1].device
    assert facts.discs[0].free_bytes > 0
    assert facts.memory_bytes > 0
    assert facts.cpus > 0
    assert facts.kernel
    assert facts.clock_offset_s == 0


def test_the_script_needs_nothing_newer_than_python_3_7() -> None:
    import ast

    ast.parse(SCRIPT.read_text(), feature_version=(3, 7))


def test_a_part_that_failed_is_left_out_and_named(answer: dict[str, Any]) -> None:
    broken = {name: value for name, value in answer.items() if name not in ("discs", "resolver")}
    broken["failed"] = {"discs": "OSError: [Errno 5]", "resolver": "x"}
    facts = parse(broken)
    assert facts.discs == ()
    assert facts.failed["discs"] == "OSError: [Errno 5]"


@pytest.mark.parametrize(
    "change",
    [
        {"hostname": 5},
        {"discs": [{"path": "/"}]},
        {"discs": "none"},
        {"cpus": "many"},
        {"cpus": True},
        {"oom_score_adj": 1},
        {"os_release": []},
        {"interfaces": [{"name": "eth0", "mtu": "1500", "addresses": []}]},
        {"failed": ["x"]},
        {"clock": None},
    ],
)
def test_refuses_facts_of_a_wrong_shape(answer: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(HostError) as caught:
        parse({**answer, **change})
    assert caught.value.code == "bad-facts"
    assert "login script" in (caught.value.hint or "")


@pytest.mark.parametrize("data", [b"", b"Welcome!\n{}", b"[]", b"{}", b"\xff", b"[" * 100000])
def test_refuses_answers_that_are_no_facts(data: bytes) -> None:
    with pytest.raises(HostError) as caught:
        parse_facts(data, sent_at=0, received_at=1)
    assert caught.value.code == "bad-facts"


def test_long_texts_are_cut(answer: dict[str, Any]) -> None:
    assert len(parse({**answer, "hostname": "x" * 100000}).hostname) == 500


@pytest.mark.parametrize(
    ("clock", "expected"), [(99.0, -1.0), (100.0, 0.0), (102.5, 0.0), (103.0, 0.0), (104.0, 1.0)]
)
def test_a_clock_between_asking_and_answer_is_right(clock: float, expected: float) -> None:
    assert clock_offset(clock, sent_at=100.0, received_at=103.0) == expected


AUDIT = """
import json, os, sys
seen = {"written": [], "started": []}
def hook(event, arguments):
    if event == "open" and isinstance(arguments[2], int):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            seen["written"].append(str(arguments[0]))
    elif event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown",
                   "os.link", "os.symlink", "os.truncate", "os.kill", "socket.bind"):
        seen["written"].append(event)
    elif event == "subprocess.Popen":
        seen["started"].append(list(arguments[1]))
sys.addaudithook(hook)
request = json.loads(sys.argv[1])
scope = {"__name__": "facts"}
exec(compile(sys.stdin.read(), "facts", "exec"), scope)
scope["main"](request["config"], request["peers"])
print(json.dumps(seen))
"""


def test_nothing_is_written_and_every_program_only_looks() -> None:
    request = json.loads(json.dumps(REQUEST))
    request["config"].update(
        ports=["tcp/22", "udp/8472"], modules=["vxlan", "no_such_module"], names=["localhost"],
        processes=["kubelet"],
    )  # fmt: skip
    request["peers"] = [["n1", "127.0.0.1", 1]]
    done = subprocess.run(
        [sys.executable, "-I", "-c", AUDIT, json.dumps(request)],
        input=SCRIPT.read_bytes(), capture_output=True, check=True,
    )  # fmt: skip
    seen = json.loads(done.stdout)
    # the first is written in a child, with that child's own value; the second keeps its value
    allowed = {
        "/proc/self/oom_score_adj",
        "/proc/sys/net/netfilter/nf_conntrack_max",
        "/dev/null",
    }
    assert set(seen["written"]) <= allowed
    assert {tuple(words[:2]) for words in seen["started"]} <= {
        ("ip", "-j"), ("getent", "ahostsv4"), ("modprobe", "-n"), ("systemctl", "is-active")
    }  # fmt: skip
