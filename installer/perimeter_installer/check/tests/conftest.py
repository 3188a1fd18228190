"""What the check modules share: what must hold on a host, and a host that answers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Protocol, cast

import pytest

FACTS_VARIABLE = "PERIMETER_CHECK_FACTS"


class Result(Protocol):
    """Part of testinfra's CommandResult."""

    rc: int
    stdout: str
    stderr: str


class Host(Protocol):
    """Part of testinfra's Host."""

    backend: Backend

    def run(self, command: str, *args: str) -> Result: ...


class Backend(Protocol):
    """Part of testinfra's backend."""

    def get_hostname(self) -> str: ...


@cache
def all_facts() -> Mapping[str, Mapping[str, object]]:
    """What must hold, by host."""
    text = Path(os.environ[FACTS_VARIABLE]).read_text(encoding="utf-8")
    return cast(Mapping[str, Mapping[str, object]], json.loads(text))


_unreachable: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _host_answers(host: Host, record_property: object) -> None:
    """A host that does not answer fails each of its checks at once, not after a time-out each."""
    name = host.backend.get_hostname()
    if name not in _unreachable:
        try:
            result = host.run("true")
            failed = result.stderr.strip() if result.rc != 0 else ""
        except RuntimeError as error:
            failed = str(error)
        _unreachable[name] = failed
    if _unreachable[name]:
        pytest.fail(f"it does not answer: {_unreachable[name][:300]}", pytrace=False)


@pytest.fixture
def facts(host: Host) -> Mapping[str, object]:
    """What must hold on this host."""
    return all_facts()[host.backend.get_hostname()]


def pytest_itemcollected(item: pytest.Item) -> None:
    """The report shows a check's docstring, not the name of a function."""
    function = cast(pytest.Function, item)
    item.user_properties.append(("title", (function.function.__doc__ or item.name).strip(" .")))
    host = cast(Host, function.callspec.params["_testinfra_host"])
    item.user_properties.append(("host", host.backend.get_hostname()))
