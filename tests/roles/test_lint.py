"""Roles and playbooks pass ansible-lint's strictest profile, offline."""

from __future__ import annotations

import subprocess

import pytest
from tests.support.collections import REPOSITORY

PLAYBOOKS = sorted(path.name for path in (REPOSITORY / "playbooks").glob("*.yml"))
ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir() if path.is_dir())


def run(command: list[str], environment: dict[str, str]) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_roles_and_playbooks_pass_the_production_profile(
    ansible_environment: dict[str, str],
) -> None:
    output = run(
        ["ansible-lint", "--offline", "--profile", "production", "roles", "playbooks"],
        ansible_environment,
    )
    assert "Passed" in output


def test_every_playbook_can_be_read(ansible_environment: dict[str, str]) -> None:
    paths = [f"playbooks/{name}" for name in PLAYBOOKS]
    run(["ansible-playbook", "--inventory", "n1,", "--syntax-check", *paths], ansible_environment)


@pytest.mark.parametrize("role", ROLES)
def test_role_has_every_part_of_the_house_rules(role: str) -> None:
    folder = REPOSITORY / "roles" / role
    for name in (
        "defaults/main.yml",
        "meta/main.yml",
        "meta/argument_specs.yml",
        "tasks/main.yml",
        "tasks/verify.yml",
    ):
        assert (folder / name).is_file(), name


@pytest.mark.parametrize("role", ROLES)
def test_tasks_main_holds_imports_only(role: str) -> None:
    text = (REPOSITORY / "roles" / role / "tasks" / "main.yml").read_text()
    tasks = text.count("- name: ")
    assert tasks and text.count("ansible.builtin.import_tasks: ") == tasks
    assert text.count("tags: ") == tasks


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_described_in_the_argument_specs(role: str) -> None:
    folder = REPOSITORY / "roles" / role
    defaults = {
        line.partition(":")[0]
        for line in (folder / "defaults" / "main.yml").read_text().splitlines()
        if line.startswith(f"{role}_")
    }
    described = (folder / "meta" / "argument_specs.yml").read_text()
    assert defaults
    assert not {name for name in defaults if f"      {name}:" not in described}
