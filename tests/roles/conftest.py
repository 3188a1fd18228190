"""What tests of roles share: an environment in which Ansible sees this checkout alone."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from tests.support.collections import REPOSITORY, collections_path

LIBRARY = REPOSITORY / "playbooks" / "library"


@pytest.fixture(scope="session")
def ansible_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables for programs of Ansible."""
    home = tmp_path_factory.mktemp("ansible")
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ANSIBLE_HOME": str(home / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
        "ANSIBLE_ROLES_PATH": str(REPOSITORY / "roles"),
        "ANSIBLE_LIBRARY": str(LIBRARY),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "NO_COLOR": "1",
    }


@pytest.fixture(scope="session")
def library() -> Callable[[str], ModuleType]:
    """Loads a module of playbooks/library by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"library_{name}", LIBRARY / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
