"""The inventory Ansible reads."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perimeter_installer.site.inventory import inventory, site_variables
from perimeter_installer.site.load import load

ROOT = Path(__file__).parents[3]
TEXT = """\
site: {name: lab}
ssh: {user: admin, key_file: "my key"}
hosts:
  n1: {address: 10.99.0.11, groups: [worker, control_plane, registry], labels: {zone: a}}
  n2: {address: 10.99.0.12, groups: [worker], ssh_port: 2222, interface: eth1}
networks: {services: 10.96.0.0/16, mtu: 1400}
minio: {replicas: 2, drives_per_node: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my site"
    folder.mkdir()
    key = folder / "my key"
    key.write_text("x")
    key.chmod(0o600)
    (folder / "site.yaml").write_text(TEXT)
    return folder


@pytest.fixture
def made(folder: Path) -> Any:
    return inventory(load(folder / "site.yaml"))["all"]


def test_hosts_have_their_address_and_groups(made: Any) -> None:
    assert made["hosts"]["n1"]["ansible_host"] == "10.99.0.11"
    assert made["hosts"]["n1"]["perimeter_node_groups"] == ["registry", "control_plane", "worker"]
    assert made["hosts"]["n2"]["ansible_port"] == 2222
    assert made["hosts"]["n2"]["perimeter_node_interface"] == "eth1"
    assert list(made["children"]["worker"]["hosts"]) == ["n1", "n2"]
    assert made["children"]["gpu"]["hosts"] == {}


def test_ssh_believes_pinned_keys_only(made: Any, folder: Path) -> None:
    words = shlex.split(made["vars"]["ansible_ssh_common_args"])
    assert "StrictHostKeyChecking=yes" in words
    assert f'UserKnownHostsFile="{folder}/known_hosts"' in words
    assert "GlobalKnownHostsFile=/dev/null" in words
    assert words[:2] == ["-F", "/dev/null"]


def test_ssh_itself_understands_the_options(made: Any, folder: Path) -> None:
    words = shlex.split(made["vars"]["ansible_ssh_common_args"])
    words += shlex.split(made["vars"]["ansible_ssh_args"])
    done = subprocess.run(
        ["ssh", "-G", *words, "10.99.0.11"], capture_output=True, text=True, check=True
    )
    shown = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    assert shown["stricthostkeychecking"] in ("yes", "true")
    assert shown["userknownhostsfile"].strip('"') == f"{folder}/known_hosts"
    assert shown["passwordauthentication"] == "no"
    assert shown["controlpersist"] == "120"


def test_ansible_itself_reads_it(folder: Path, made: Any, tmp_path: Path) -> None:
    path = tmp_path / "inventory.json"
    path.write_text(json.dumps({"all": made}))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-inventory", "-i", str(path), "--list"],
        capture_output=True,
        text=True,
        check=True,
    )
    listed = json.loads(done.stdout)
    assert listed["kubernetes"]["children"] == ["control_plane", "worker"]
    assert listed["_meta"]["hostvars"]["n2"]["perimeter_network_mtu"] == 1400
    assert listed["_meta"]["hostvars"]["n1"]["perimeter_node_labels"] == {"zone": "a"}


def test_every_variable_is_in_the_documentation(made: Any, folder: Path) -> None:
    documented = set(re.findall(r"`(perimeter_\w+)`", (ROOT / "docs/site.md").read_text()))
    names = set(site_variables(load(folder / "site.yaml")))
    names |= {name for name in made["hosts"]["n1"] if name.startswith("perimeter_")}
    assert names == {name for name in documented if name != "perimeter_installer"}


def test_the_same_site_gives_the_same_inventory(folder: Path) -> None:
    site = load(folder / "site.yaml")
    assert json.dumps(inventory(site)) == json.dumps(inventory(site))
