"""The lab is what the other tests take it for: cut off, countable, and hard to break for good."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from tests.lab import CommandFailed, Lab, LabError, Node

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root"),
]
OUTSIDE = "192.0.2.1"  # an address for documentation: nobody's


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The lab that is up, or one of our own that is removed afterwards."""
    try:
        running = Lab.attach()
    except LabError:
        own = Lab.up(gateway="blackhole")
        yield own
        own.clean()
    else:
        yield running


def reaches(node: Node, address: str) -> bool:
    """Whether the address answers at all: a refused connection is an answer too."""
    probe = (
        "import socket, sys\n"
        "try: socket.create_connection((sys.argv[1], 22), timeout=1)\n"
        "except ConnectionRefusedError: pass\n"
    )
    ping = node.run(["ping", "-c1", "-W1", address], check=False).returncode
    connect = node.run(["python3", "-c", probe, address], check=False).returncode
    return ping == 0 or connect == 0


def test_nodes_are_servers_without_a_container_runtime(lab: Lab) -> None:
    for node in lab.nodes:
        assert node.wait_up() == "running"
        missing = node.run("! command -v containerd runc docker podman kubelet").stdout
        assert missing == ""
        assert node.run("sudo whoami", user="admin").stdout == "root\n"
        assert node.run(["cat", "/etc/resolv.conf"]).stdout == ""


def test_peers_see_each_other_but_no_side_sees_the_other(lab: Lab) -> None:
    jump, builder = lab.node("jump"), lab.node("builder")
    for node in lab.closed_nodes:
        if node is not jump:
            assert reaches(jump, node.address), f"jump does not reach {node.name}"
        assert not reaches(builder, node.address), f"builder reaches {node.name}"
        assert not reaches(node, builder.address), f"{node.name} reaches the builder"
        assert not reaches(node, "172.30.1.2"), f"{node.name} reaches the upstream"
        assert not reaches(node, OUTSIDE), f"{node.name} reaches {OUTSIDE}"


def test_switch_of_the_closed_side_has_no_way_out(lab: Lab) -> None:
    found = lab.closed_side_escapes()
    assert found["foreign"] == []
    assert found["forwarding"] is False
    assert set(found["leads_to"]) == {node.name for node in lab.closed_nodes}


def test_packet_that_tries_to_leave_is_counted(lab: Lab) -> None:
    node = lab.node("n1")
    lab.reset_escapes()
    node.run(["ping", "-c1", "-W1", lab.node("jump").address])
    before = lab.closed_side_escapes()
    assert before["packets"]["watched"] > 0
    assert before["packets"]["outside_ipv4"] == before["packets"]["outside_arp"] == 0
    assert before["attempts"] == []
    if lab.gateway == "blackhole":
        node.run(["ping", "-c2", "-i0.2", "-W1", OUTSIDE], check=False)
        after = lab.closed_side_escapes()
        assert after["packets"]["outside_ipv4"] == 2
        assert after["attempts"] == [{"from": node.address, "to": OUTSIDE, "packets": 2}]
    else:
        node.run(["ip", "route", "add", OUTSIDE, "dev", "eth0"])
        node.run(["ping", "-c1", "-W1", OUTSIDE], check=False)
        node.run(["ip", "route", "del", OUTSIDE, "dev", "eth0"])
        after = lab.closed_side_escapes()
        assert after["packets"]["outside_arp"] > 0
        assert [(a["from"], a["to"]) for a in after["attempts"]] == [(node.address, OUTSIDE)]
    lab.reset_escapes()
    assert lab.closed_side_escapes()["packets"]["outside_ipv4"] == 0


def test_jump_logs_in_to_nodes_whose_host_keys_it_knows(lab: Lab) -> None:
    address = lab.node("n1").address
    strict = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    jump = lab.node("jump")
    assert jump.run([*strict, f"root@{address}", "hostname"]).stdout == "n1\n"
    assert jump.run([*strict, f"admin@{address}", "sudo", "whoami"]).stdout == "root\n"


def test_folder_is_carried_by_hand(lab: Lab) -> None:
    builder, jump = lab.node("builder"), lab.node("jump")
    builder.run(
        "mkdir -p /srv/disc/a && seq 100000 > /srv/disc/a/data && ln -sf a/data /srv/disc/b"
    )
    lab.carry("/srv/disc", "builder", "jump", "/srv/carried")
    sums = "cd {} && find . -type f -o -type l | sort | xargs sha256sum"
    wanted = builder.run(sums.format("/srv/disc")).stdout
    assert jump.run(sums.format("/srv/carried")).stdout == wanted
    builder.run("rm -r /srv/disc")
    jump.run("rm -r /srv/carried")


def test_reboots_from_inside(lab: Lab) -> None:
    node = lab.node("n2")
    node.run("touch /root/kept /run/lost; sync")
    before = node.leader()
    node.reboot()
    assert node.leader() != before
    assert node.run("cd /; ls root/kept run/lost 2>/dev/null", check=False).stdout == "root/kept\n"
    assert reaches(lab.node("jump"), node.address)


def test_crash_loses_what_was_not_written_and_nothing_else(lab: Lab) -> None:
    node = lab.node("n3")
    node.run("echo kept > /root/written; sync; echo lost > /root/unwritten")
    node.crash()
    assert not node.running()
    node.start()
    assert node.run(["cat", "/root/written"]).stdout == "kept\n"
    assert node.run("test -s /root/unwritten", check=False).returncode != 0


def test_cut_node_is_gone_until_healed_but_still_obeys(lab: Lab) -> None:
    node, jump = lab.node("n3"), lab.node("jump")
    node.cut()
    assert not reaches(jump, node.address)
    assert node.run(["hostname"]).stdout == "n3\n"
    node.heal()
    assert reaches(jump, node.address)


def test_paused_node_stands_still(lab: Lab) -> None:
    node = lab.node("n3")
    node.pause()
    with pytest.raises(CommandFailed, match="not done after 1 s"):
        node.run(["true"], timeout_s=1)
    node.resume()
    assert node.run(["true"], timeout_s=10).returncode == 0


def test_full_disc_refuses_writes_until_freed(lab: Lab) -> None:
    node = lab.node("n3")
    assert node.fill_disc("/", keep_free_bytes=8 << 20) > 1 << 30
    with pytest.raises(CommandFailed, match="No space left on device"):
        node.run(["dd", "if=/dev/zero", "of=/root/too-much", "bs=1M", "count=32"])
    node.free_disc()
    node.run("rm /root/too-much; dd if=/dev/zero of=/root/fits bs=1M count=32; rm /root/fits")


def test_command_that_takes_too_long_is_ended_in_the_node(lab: Lab) -> None:
    node = lab.node("n1")
    with pytest.raises(CommandFailed, match="not done after 1 s"):
        node.run("sleep 4711 & sleep 4711", timeout_s=1)
    time.sleep(0.5)
    assert node.run(["pgrep", "-f", "sleep 4711"], check=False).stdout == ""
