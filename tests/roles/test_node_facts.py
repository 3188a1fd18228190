"""Module node_facts: what it reads out of the kernel's tables."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
LOCAL = "eth0\t0000630A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
DEFAULT = "eth0\t00000000\t0163630A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
DOWN = "eth0\t00000000\t0163630A\t0002\t0\t0\t0\t00000000\t0\t0\t0\n"
HALF = "eth0\t00000000\t0163630A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n"


@pytest.fixture
def module(library: Callable[[str], ModuleType]) -> ModuleType:
    return library("node_facts")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (None, False),
        (HEADER, False),
        (HEADER + LOCAL, False),
        (HEADER + LOCAL + DEFAULT, True),
        (HEADER + DOWN, False),
        (HEADER + HALF, False),  # 0.0.0.0/1 is no default route
    ],
)
def test_default_route_is_found(module: ModuleType, table: str | None, expected: bool) -> None:
    assert module.has_default_route(table) is expected


def test_interface_is_the_one_that_carries_the_address(module: ModuleType) -> None:
    links = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}]},
        {"ifname": "ens3", "addr_info": [{"local": "10.99.0.1"}, {"local": "10.99.0.11"}]},
    ]
    assert module.interface_of("10.99.0.11", links) == "ens3"
    assert module.interface_of("10.99.0.12", links) == ""


def test_settings_are_wrong_when_other_lower_or_unknown(module: ModuleType) -> None:
    values = {"a": "1", "b": "128", "c": "many"}
    wrong = module.wrong_sysctls(
        {"a": "1", "x": "1"}, {"a": "1", "b": "1024", "c": "1", "y": "1"}, values.get
    )
    assert wrong == {"x": None, "b": "128", "c": "many", "y": None}


def test_numbers_and_words_of_settings_compare_alike(module: ModuleType) -> None:
    assert module.wrong_sysctls({"a": 1}, {"b": 8192}, {"a": "1", "b": "8192"}.get) == {}


def test_swap_is_noticed_now_and_after_a_reboot(module: ModuleType) -> None:
    table = "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1 0 -2\n"
    assert module.swap_devices(table) == ["/dev/sda2"]
    assert module.swap_devices(None) == []
    assert module.fstab_names_swap("UUID=x none swap sw 0 0\n")
    assert not module.fstab_names_swap("# UUID=x none swap sw 0 0\n/dev/sda1 / ext4 defaults 0 1\n")


@pytest.mark.parametrize("text", [None, "", "{", "[]", '"joined"'])
def test_state_that_cannot_be_read_is_no_state(module: ModuleType, text: str | None) -> None:
    assert module.kubernetes_state(text) == {}
