"""Roles and playbooks hold to ansible-lint's production profile, with the collections they use."""

from __future__ import annotations

from pathlib import Path

from perimeter_bundle.collect.collections import unpack_collections
from perimeter_bundle.format.layout import COLLECTIONS
from tests.lab.state import cache_folder
from tests.lab.wheels import wheel_folder
from tests.lint.test_lint import REPOSITORY, run


def test_roles_and_playbooks_hold_to_the_production_profile(tmp_path: Path) -> None:
    (package,) = wheel_folder(cache_folder()).folder.glob("ansible-*.whl")
    unpack_collections(package, tmp_path)
    run(
        "ansible-lint",
        "--profile=production",
        "--offline",
        "--nocolor",
        "--strict",
        ANSIBLE_COLLECTIONS_PATH=str(tmp_path / COLLECTIONS),
        ANSIBLE_LIBRARY=str(REPOSITORY / "playbooks" / "library"),
        ANSIBLE_HOME=str(tmp_path / "home"),
    )
