"""perimeter-install as a user types it: options, messages, exit statuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support.bundles import SmallBundle, make_bundle

from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.format.volumes.pack import PackRequest, pack
from perimeter_bundle.model.errors import TrustError
from perimeter_bundle.terminal.guard import run_guarded
from perimeter_installer.cli.main import cli
from perimeter_installer.cli.options import trust_at
from perimeter_installer.cli.preflight_command import need_of
from perimeter_installer.cli.status_command import is_well, status_text
from perimeter_installer.run.status import ClusterStatus, NodeStatus, RunStatus, SiteStatus

COMMANDS = list(cli.places)


class Shell:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as caught:
            run_guarded(cli, arguments)
        self.out, self.err = self._capsys.readouterr()
        return int(caught.value.code or 0)

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.chdir(tmp_path)
    for name in ("PERIMETER_SITE", "PERIMETER_BUNDLE", "PERIMETER_TRUST"):
        monkeypatch.delenv(name, raising=False)
    return Shell(tmp_path, capsys)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> SmallBundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


def test_help_lists_the_commands_in_the_order_of_use() -> None:
    text = CliRunner().invoke(cli, ["--help"]).output
    places = [text.rindex(f"\n  {name}") for name in COMMANDS]
    assert places == sorted(places)
    assert COMMANDS == [
        "init", "site-facts", "verify-volume", "repair", "unpack", "verify", "preflight", "load",
        "apply", "check", "status", "inventory"
    ]  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    text = CliRunner().invoke(cli, [name, "--help"]).output
    assert f"perimeter-install {name}" in text
    assert "--json" in text
    assert "--site" in text or name == "repair"  # it needs volumes and nothing else


def test_verify_says_each_numbered_step(shell: Shell, bundle: SmallBundle) -> None:
    status = shell("verify", "--bundle", str(bundle.root), "--trust", str(bundle.trust_folder))
    assert status == 0
    assert [line.split(".")[0].strip() for line in shell.out.splitlines()] == [
        str(number) for number in range(1, 11)
    ]
    assert "next: perimeter-install preflight" in shell.err


def test_volumes_are_checked_and_put_together_disc_by_disc(
    shell: Shell, bundle: SmallBundle, tmp_path: Path
) -> None:
    pack(PackRequest(bundle.root, tmp_path / "volumes", 60_000))
    trust = ("--trust", str(bundle.trust_folder))
    assert shell("verify-volume", "volumes", *trust) == 0
    assert "volumes/2026.11.v002.tar holds: volume 2 of 2 of 2026.11" in shell.out
    assert shell("unpack", "volumes/2026.11.v002.tar", "--out", "put", *trust) == 1
    assert "volumes still to come: 1" in shell.out
    assert shell("unpack", "volumes/2026.11.v001.tar", "--out", "put", *trust, "--json") == 0
    assert shell.json["complete"] is True
    assert "next: perimeter-install verify --bundle put" in shell.err
    assert shell("verify", "--bundle", "put", *trust) == 0
    assert shell("repair", "volumes") == 2
    assert "error[no-parity]" in shell.err
    assert shell("unpack", "nowhere", "--out", "put", *trust) == 2
    assert "error[no-volumes]" in shell.err
    os.truncate("volumes/2026.11.v001.tar", 5000)
    assert shell("verify-volume", "volumes", *trust) == 4
    assert "2026.11.v002.tar holds" in shell.out
    assert "2026.11.v001.tar is truncated" in shell.err


def test_verify_as_json_names_release_and_signers(shell: Shell, bundle: SmallBundle) -> None:
    shell("verify", "--bundle", str(bundle.root), "--trust", str(bundle.trust_folder), "--json")
    assert shell.json["verified"] is True
    assert shell.json["release"] == "2026.11"
    assert shell.json["signers"] == ["builder.pub"]


def test_verify_of_a_changed_byte_ends_with_4_and_names_the_file(
    shell: Shell, tmp_path: Path
) -> None:
    made = make_bundle(tmp_path / "made")
    path = made.root / "VERIFY.md"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    arguments = ["verify", "--bundle", str(made.root), "--trust", str(made.trust_folder)]
    assert shell(*arguments) == 4
    assert "VERIFY.md" in shell.err
    assert "FAILED" in shell.out
    assert shell(*arguments, "--json") == 4
    assert shell.json["verified"] is False
    assert shell.json["error"]["code"] == "digest-mismatch"


def test_verify_without_keys_ends_with_5(shell: Shell, bundle: SmallBundle, tmp_path: Path) -> None:
    assert shell("verify", "--bundle", str(bundle.root), "--trust", str(tmp_path / "no")) == 5
    (tmp_path / "empty").mkdir()
    assert shell("verify", "--bundle", str(bundle.root), "--trust", str(tmp_path / "empty")) == 5
    assert "no key is trusted" in shell.err or "trust" in shell.err


def test_no_bundle_is_said_plainly(shell: Shell, bundle: SmallBundle) -> None:
    assert shell("verify", "--bundle", "nothing", "--trust", str(bundle.trust_folder)) == 2
    assert "error[no-bundle]: there is no folder nothing" in shell.err
    assert shell("verify", "--trust", str(bundle.trust_folder)) == 2
    assert "Missing option '--bundle'" in shell.err


def test_bundle_and_trust_can_come_from_the_environment(
    shell: Shell, bundle: SmallBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERIMETER_BUNDLE", str(bundle.root))
    monkeypatch.setenv("PERIMETER_TRUST", str(bundle.trust_folder))
    assert shell("verify", "--quiet") == 0


@pytest.mark.parametrize("name", ["preflight", "load", "apply", "check", "status"])
def test_a_wrong_site_is_refused_before_anything_else(
    shell: Shell, bundle: SmallBundle, name: str
) -> None:
    (shell.folder / "site.yaml").write_text("site: {nam: lab}\n")
    more = ["--bundle", str(bundle.root)] if name != "status" else []
    assert shell(name, *more) == 2
    assert "line 1: site.nam: unknown key; did you mean name?" in shell.err
    assert shell(name, *more, "--json") == 2
    assert shell.json["error"]["code"] == "bad-site"


def test_without_a_site_the_way_to_one_is_named(shell: Shell) -> None:
    assert shell("preflight") == 2
    assert "perimeter-install init" in shell.err


@pytest.mark.parametrize("name", ["preflight", "load", "apply", "check"])
def test_nothing_is_done_with_a_bundle_that_does_not_verify(
    shell: Shell, tmp_path: Path, name: str
) -> None:
    made = make_bundle(tmp_path / "made")
    (made.root / "content" / "extra").write_bytes(b"x")
    write_site(shell)
    arguments = [name, "--bundle", str(made.root), "--trust", str(made.trust_folder)]
    assert shell(*arguments) == 4
    assert "content/extra" in shell.err
    assert sorted(path.name for path in shell.folder.iterdir()) == ["made", "site.yaml"]


def test_a_step_that_does_not_exist_is_refused(shell: Shell, bundle: SmallBundle) -> None:
    write_site(shell)
    assert shell("apply", "--bundle", str(bundle.root), "--step", "nonsense") == 2
    assert "'nonsense' is not one of" in shell.err


def write_site(shell: Shell) -> None:
    (shell.folder / "site.yaml").write_text(
        "site: {name: lab}\nssh: {user: root}\n"
        "hosts: {n1: {address: 10.99.0.11, groups: [registry, control_plane, worker]}}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "lab"], "--host, --ssh-user must be given"),
        (["--host", "n1"], "cannot read the host 'n1'"),
        (["--dns", "10.0.0.1", "--no-dns"], "--dns and --no-dns exclude each other"),
        (["--pin", "--name", "lab"], "--pin takes an existing site.yaml as it is"),
        (["--pin"], "perimeter-install init"),
        (["--fingerprint", "n1=x"], "cannot read the fingerprint 'n1=x'"),
        (
            ["--name", "lab", "--ssh-user", "root", "--host", "n1=10.99.0.11:worker", "--no-pin"],
            "no host is in the group control_plane",
        ),
    ],
)
def test_init_refuses(shell: Shell, arguments: list[str], message: str) -> None:
    assert shell("init", *arguments) == 2
    assert message in shell.err
    assert list(shell.folder.iterdir()) == []


def test_trust_comes_from_the_option_then_the_site_then_the_machine(
    tmp_path: Path, bundle: SmallBundle
) -> None:
    site, system = tmp_path / "site.yaml", tmp_path / "system"
    with pytest.raises(TrustError) as caught:
        trust_at(None, site, system=system)
    assert str(tmp_path / "trust") in caught.value.message
    system.mkdir()
    key = bundle.trust_folder / "builder.pub"
    (system / "machine.pub").write_bytes(key.read_bytes())
    assert [each.name for each in trust_at(None, site, system=system).keys] == ["machine.pub"]
    (tmp_path / "trust").mkdir()
    assert [each.name for each in trust_at(None, site, system=system).keys] == ["machine.pub"]
    (tmp_path / "trust" / "site.pub").write_bytes(key.read_bytes())
    assert [each.name for each in trust_at(None, site, system=system).keys] == ["site.pub"]
    assert [each.name for each in trust_at(key, site, system=system).keys] == ["builder.pub"]


def test_room_comes_from_the_verified_manifest(bundle: SmallBundle) -> None:
    need = need_of(open_bundle(bundle.root, Trust.load(bundle.trust_folder)))
    assert need.registry_bytes == bundle.manifest.room.registry_bytes
    assert need.node_bytes == bundle.manifest.room.node_bytes
    assert need.architectures == {"amd64"}


RUN = RunStatus("r1", "2026.11", 1, "2026-11-22T10:00:00Z", "root", "sha256:aa")
NODE = NodeStatus("n1", True, ("control-plane",), "v1.34.4")
LIVE = ClusterStatus("n1", "v1.34.4", (NODE,), {"Running": 9})


@pytest.mark.parametrize(
    ("found", "well", "text"),
    [
        (SiteStatus("lab", RUN, None, LIVE), True, "pods: 9 Running"),
        (SiteStatus("lab", None, None, ClusterStatus(problem="no answer")), False, "nothing yet"),
        (SiteStatus("lab", RUN, RUN, LIVE), False, "not finished: release 2026.11"),
        (SiteStatus("lab", RUN, None, ClusterStatus(problem="no answer")), False, "cluster: no"),
        (
            SiteStatus(
                "lab", RUN, None, ClusterStatus("n1", "v1", (NodeStatus("n2", False, (), ""),))
            ),
            False,
            "NOT READY",
        ),
        (
            SiteStatus("lab", RUN, None, ClusterStatus("n1", "v1", (NODE,), {}, ("minio: x",))),
            False,
            "minio: x",
        ),
    ],
)
def test_status_is_well_only_when_nothing_needs_a_look(
    found: SiteStatus, well: bool, text: str
) -> None:
    assert is_well(found) is well
    assert text in status_text(found)
