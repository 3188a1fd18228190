"""What hosts said becomes site facts; and what the script finds in /sys and /proc of a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.preflight.factory import make_facts, make_site

from perimeter_bundle.format.site_facts import SiteFacts
from perimeter_bundle.model.errors import HostError
from perimeter_installer.preflight import remote_facts
from perimeter_installer.preflight.facts import GpuKind
from perimeter_installer.preflight.site_facts import site_facts_of
from perimeter_installer.site.model import GpuDriver


def test_alike_hosts_share_a_profile_and_the_sites_wish_goes_along() -> None:
    site = make_site(3, gpu=GpuDriver("container", "require"))
    gpus = (GpuKind("10de:2330", "GH100 [H100 \u2122]", 8),)
    facts = {
        "n1": make_facts(1),
        "n2": make_facts(2, gpus=gpus, processes=("containerd", "kubelet"), secure_boot="strange"),
        "n3": make_facts(3),
    }
    made = site_facts_of(site, facts)
    assert [(p.name, p.host_names) for p in made.profiles] == [("cpu-1", "n1, n3"), ("gpu-1", "n2")]
    machine = made.profiles[1].machine
    assert machine.gpus[0].name == "GH100 [H100 ?]"
    assert machine.runtimes == ("containerd",)
    assert machine.secure_boot == "unknown"
    assert made.precompiled.value == "require"
    assert SiteFacts.parse(made.to_bytes()) == made


def test_a_host_that_did_not_answer_and_one_that_half_did_are_both_named() -> None:
    facts = {
        "n1": HostError("ssh-refused", "n1 refuses the connection"),
        "n2": make_facts(2, failed={"gpus": "OSError: x", "swap": "not needed here"}),
    }
    with pytest.raises(HostError) as caught:
        site_facts_of(make_site(2), facts)
    assert caught.value.code == "hosts-not-asked"
    assert caught.value.problems == ("n1: n1 refuses the connection", "n2: gpus: OSError: x")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the script takes for the root of the host."""

    def inside(path: Any, *more: Any) -> Path:
        text = str(path)
        there = text if text.startswith(str(tmp_path)) else f"{tmp_path}{text}"
        return Path(there, *more)

    monkeypatch.setattr(remote_facts, "Path", inside)
    return tmp_path


def put(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def pci(host: Path, slot: str, vendor: str, device: str, kind: str) -> None:
    for name, value in (("vendor", vendor), ("device", device), ("class", kind)):
        put(host / f"sys/bus/pci/devices/{slot}/{name}", f"{value}\n")


IDS = """\
# a comment
10dd  Somebody Else
\t2330  Not this one
10de  NVIDIA Corporation
\t2330  GH100 [H100 SXM5 80GB]
\t\t10de 16c1  a subsystem
\t20b0  GA100 [A100 SXM4 40GB]
10df  Emulex
\t2331  Not this one either
"""


def test_gpus_are_counted_by_kind_and_other_devices_are_none(host: Path) -> None:
    pci(host, "0000:18:00.0", "0x10de", "0x2330", "0x030200")
    pci(host, "0000:2a:00.0", "0x10de", "0x2330", "0x030200")
    pci(host, "0000:05:00.0", "0x10de", "0x22a3", "0x068000")  # an NVSwitch
    pci(host, "0000:06:00.0", "0x10de", "0x1aeb", "0x040300")  # the sound of a card
    pci(host, "0000:07:00.0", "0x1002", "0x2330", "0x030000")
    assert remote_facts.gpus() == [{"device": "10de:2330", "name": "", "count": 2}]
    put(host / "usr/share/misc/pci.ids", IDS)
    assert remote_facts.gpus()[0]["name"] == "GH100 [H100 SXM5 80GB]"
    put(
        host / "proc/driver/nvidia/gpus/0000:18:00.0/information", "Model: \t NVIDIA H100\nIRQ: 1\n"
    )
    assert remote_facts.gpus()[0]["name"] == "NVIDIA H100"


def test_a_host_without_pci_or_driver_has_none(host: Path) -> None:
    assert remote_facts.gpus() == []
    assert remote_facts.nvidia_driver() == ""


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.105.08  Wed Oct 29 22:05:45 UTC 2025",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build  (x)",
    ],
)
def test_the_loaded_driver_is_known_by_its_version(host: Path, line: str) -> None:
    put(host / "proc/driver/nvidia/version", f"{line}\nGCC version:  gcc version 12.3.0\n")
    assert remote_facts.nvidia_driver() == "580.105.08"


def test_secure_boot_is_told_from_the_firmware_variable(host: Path) -> None:
    variable = host / remote_facts.EFI_SECURE_BOOT[1:]
    assert remote_facts.secure_boot() == "unknown"
    (host / "sys/firmware").mkdir(parents=True)
    assert remote_facts.secure_boot() == "off"
    (host / "sys/firmware/efi").mkdir()
    assert remote_facts.secure_boot() == "unknown"
    put(variable, b"\x06\0\0\0\x01")
    assert remote_facts.secure_boot() == "on"
    put(variable, b"\x06\0\0\0\0")
    assert remote_facts.secure_boot() == "off"
    put(variable, b"")
    assert remote_facts.secure_boot() == "unknown"
    variable.unlink()
    put(variable.with_name("Boot0000-x"), b"")
    assert remote_facts.secure_boot() == "off"
    variable.mkdir()
    assert remote_facts.secure_boot() == "unknown"
