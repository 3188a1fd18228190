"""Module helm_release: what is done for each state a release can be in."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

DESCRIPTION = "chart archive sha256:aa"
VALUES = {"replicas": 3, "users": []}


@pytest.fixture
def module(library: Callable[[str], ModuleType]) -> ModuleType:
    return library("helm_release")


def release(status: str, **more: Any) -> dict[str, Any]:
    info = {"status": status, "description": more.pop("description", DESCRIPTION)}
    return {"name": "minio", "version": 1, "info": info, "config": VALUES} | more


@pytest.mark.parametrize(
    ("found", "action"),
    [
        (None, "install"),
        (release("deployed"), "nothing"),
        (release("deployed", description="chart archive sha256:bb"), "upgrade"),
        (release("deployed", description="Rollback to 1"), "upgrade"),
        (release("deployed", config={"replicas": 4}), "upgrade"),
        (release("deployed", config=None), "upgrade"),
        (release("failed"), "upgrade"),
        (release("pending-install"), "uninstall"),
        (release("uninstalling"), "uninstall"),
        (release("pending-upgrade"), "rollback"),
        (release("pending-rollback"), "rollback"),
        ({"name": "minio"}, "upgrade"),
    ],
)
def test_release_is_judged_by_its_state(module: ModuleType, found: Any, action: str) -> None:
    assert module.judge(found, DESCRIPTION, VALUES) == action


def test_release_without_values_equals_no_values(module: ModuleType) -> None:
    assert module.judge(release("deployed", config=None), DESCRIPTION, {}) == "nothing"
