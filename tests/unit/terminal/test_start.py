"""What a process imports before its work: time and memory of every small command.

Each command runs as a process of its own, to its end, and says then what it had imported.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from tests.support.bundles import SmallBundle, make_bundle, make_key
from tests.support.sites import make_site

from perimeter_bundle.cli.main import cli as builder
from perimeter_bundle.terminal.commands import Commands
from perimeter_bundle.terminal.console import stderr_console
from perimeter_installer.cli.main import cli as installer
from perimeter_installer.run.secrets import open_secrets

_RUN = """\
import os, sys
from {program}.cli.main import main
try:
    main()
finally:
    with open(os.environ["TOLD"], "w") as told:
        print(*{{name.partition(".")[0] for name in sys.modules}}, file=told)
"""
_DRAWING = ("rich", "jinja2", "tqdm")  # draws and renders for people; pipes get lines
_PARSING = ("pydantic", "ruamel", "yaml")  # for files people write: verify reads none
_NETWORK = ("requests", "urllib3", "docker", "paramiko", "kubernetes")  # verify asks nobody
# of all these Ansible is the largest; load needs it when it stands up an embedded registry
_PLAYBOOKS = ("ansible", "ansible_runner", "testinfra", "pytest")


def ended(told: Path, program: str, *words: str | Path) -> tuple[int, set[str]]:
    """Status of a fresh process without a terminal, and the packages it had imported."""
    paths = os.pathsep.join(filter(None, sys.path))
    process = subprocess.run(
        [sys.executable, "-c", _RUN.format(program=program), *map(str, words)],
        env={"PYTHONPATH": paths, "PATH": os.environ["PATH"], "TOLD": str(told)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return process.returncode, set(told.read_text().split())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> SmallBundle:
    folder = tmp_path_factory.mktemp("start")
    return make_bundle(folder, key=make_key(folder / "keys"))


def loaded(names: set[str], *groups: Sequence[str]) -> set[str]:
    return {name for group in groups for name in group} & names


def test_verify_of_the_builder_imports_no_library_it_has_no_use_for(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    status, names = ended(
        tmp_path / "told", "perimeter_bundle", "verify", bundle.root, "--trust", bundle.trust_folder
    )
    assert status == 0
    assert not loaded(names, _DRAWING, _PARSING, _NETWORK, _PLAYBOOKS)


def test_verify_of_the_site_imports_no_library_it_has_no_use_for(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    where = ("--bundle", bundle.root, "--trust", bundle.trust_folder)
    status, names = ended(tmp_path / "told", "perimeter_installer", "verify", *where)
    assert status == 0
    assert not loaded(names, _DRAWING, _PARSING, _NETWORK, _PLAYBOOKS)


def test_inspect_imports_no_library_it_has_no_use_for(bundle: SmallBundle, tmp_path: Path) -> None:
    status, names = ended(tmp_path / "told", "perimeter_bundle", "inspect", bundle.root)
    assert status == 0
    assert not loaded(names, _DRAWING, _PARSING, _NETWORK, _PLAYBOOKS)


def test_load_into_an_external_registry_asks_without_ansible_and_large_clients(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    site = make_site(tmp_path, registry_url="https://10.99.0.9", registry_ca="not a certificate")
    open_secrets(site)
    where = ("--site", site.path, "--bundle", bundle.root, "--trust", bundle.trust_folder)
    status, names = ended(tmp_path / "told", "perimeter_installer", "load", *where)
    assert status == 2  # bundle and secrets were read, and the registry's CA is no certificate
    assert "http" in names
    assert not loaded(names, _DRAWING, _NETWORK, _PLAYBOOKS)


@pytest.mark.parametrize("program", ["perimeter_bundle", "perimeter_installer"])
def test_help_imports_no_command(program: str, tmp_path: Path) -> None:
    status, names = ended(tmp_path / "told", program, "--help")
    assert status == 0
    assert not loaded(names, _DRAWING, _PARSING, _NETWORK, _PLAYBOOKS, ("cryptography",))


def test_what_build_needs_is_imported_without_what_few_builds_need(tmp_path: Path) -> None:
    status, names = ended(tmp_path / "told", "perimeter_bundle", "build", "--help")
    assert status == 0
    # rendering for people, a Docker engine, signatures: by the functions that use them
    assert not loaded(names, _DRAWING, ("requests", "docker", "cryptography"))


@pytest.mark.parametrize("group", [builder, installer])
def test_the_list_of_commands_says_what_each_command_says_of_itself(group: click.Group) -> None:
    assert isinstance(group, Commands)
    context = click.Context(group)
    for name, place in group.places.items():
        command = group.get_command(context, name)
        assert command
        shown = click.Command(name, help=place.help).get_short_help_str(500)
        assert command.get_short_help_str(500) == shown, name


def test_colours_are_shown_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    console = stderr_console()
    assert console.is_terminal
    console.print("red", style="red")
    assert console.file.getvalue() == "\x1b[31mred\x1b[0m\n"  # type: ignore[attr-defined]


def test_the_program_ends_when_nobody_reads_its_lines() -> None:
    talk = "from perimeter_bundle.terminal.console import Lines\nwhile True:\n"
    process = subprocess.Popen(
        [sys.executable, "-c", talk + " Lines().print('line')"],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ["PATH"]},
        stderr=subprocess.PIPE,
    )
    assert process.stderr
    assert process.stderr.readline() == b"line\n"
    process.stderr.close()
    assert process.wait(timeout=60) == 1
