"""perimeter-bundle as a user calls it, as far as no network is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.bundles import make_bundle, make_key
from tests.support.command import Ended, run_command

from perimeter_bundle import __version__
from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.load import load_catalog, load_release
from perimeter_bundle.collect.lock import unresolved_lock
from perimeter_bundle.format.layout import INDEX

COMMANDS = (
    "discover",
    "plan",
    "lock",
    "diff",
    "why",
    "build",
    "keygen",
    "sign",
    "verify",
    "inspect",
    "pack",
    "verify-volume",
    "repair",
)


class Runner:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Ended:
        return run_command(self._capsys, *arguments)


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Runner:
    monkeypatch.chdir(tmp_path)
    return Runner(capsys)


def test_help_lists_the_commands_in_the_order_of_use(run: Runner) -> None:
    shown = run("--help").out
    places = [shown.rindex(f"\n  {command} ") for command in COMMANDS]
    assert places == sorted(places)
    assert run("--version").out == f"perimeter-bundle, version {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_an_example(run: Runner, command: str) -> None:
    shown = run(command, "--help").out
    assert f"perimeter-bundle {command} " in shown.partition("Examples:")[2]
    assert "--json" in shown


def write_names(path: Path) -> None:
    """A lock of the base release's names, none of them resolved."""
    release = load_release(load_catalog(content_root() / "manifests"), "2026.11-base")
    path.write_bytes(unresolved_lock(release).to_bytes())


def test_build_refuses_an_unresolved_lock_and_makes_no_folder(run: Runner, tmp_path: Path) -> None:
    write_names(tmp_path / "images.lock")
    ended = run("build", "2026.11-base", "--out", "bundle")
    assert ended.status == 2
    assert ended.out == ""
    assert "error[lock-unresolved]" in ended.err
    assert "hint: run perimeter-bundle lock 2026.11-base" in ended.err
    assert not (tmp_path / "bundle").exists()


def test_plan_refuses_a_lock_that_was_named_and_pins_nothing(run: Runner, tmp_path: Path) -> None:
    write_names(tmp_path / "open.lock")
    ended = run("plan", "2026.11-base", "--lock", "open.lock", "--json")
    assert ended.status == 2
    assert json.loads(ended.out)["error"]["code"] == "lock-unresolved"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("plan", "1999.01"), "unknown-release"),
        (("plan", "2026.11-base", "--catalog", "nowhere"), "no-catalog"),
        (("plan", "2026.11-base", "--platform", "amd64"), "bad-platform"),
        (("plan", "2026.11-base", "--platform", "linux/s390x"), "bad-platform"),
        (("plan", "2026.11-base", "--lock", "gone.lock"), "no-lock"),
        (("plan", "2026.11-base", "--ca-file", "gone.pem"), "bad-settings"),
        (("plan", "2026.11-base", "--mirror", "quay.io"), "bad-settings"),
        (("plan", "2026.11-base", "--workers", "0"), "bad-settings"),
        (("build", "2026.11-base"), "bad-option"),
        (("inspect", "gone"), "no-bundle"),
        (("pack", "gone", "--out", "v", "--volume-size", "4G"), "no-bundle"),
        (("pack", ".", "--out", "v", "--volume-size", "4X"), "volume-size"),
        (("sign", "gone", "--key", "k"), "no-bundle"),
        (("sign", ".", "--key", "k", "--password-file", "gone"), "unreadable-password"),
    ],
)
def test_wrong_options_and_files_end_with_status_2(
    run: Runner, arguments: tuple[str, ...], code: str
) -> None:
    ended = run(*arguments, "--json")
    assert ended.status == 2
    assert json.loads(ended.out)["error"]["code"] == code


def test_keygen_sign_verify_and_inspect_fit_together(run: Runner, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", sign=False).root
    ended = run("keygen", "--out", "builder.key")
    assert ended.status == 0
    assert "next: perimeter-bundle sign DIR --key builder.key" in ended.err
    assert (tmp_path / "builder.key").stat().st_mode & 0o777 == 0o600
    assert run("verify", bundle, "--trust", "builder.pub").status == 5
    ended = run("sign", bundle, "--key", "builder.key")
    assert ended.status == 0
    assert "next: perimeter-bundle verify" in ended.err
    ended = run("verify", bundle, "--trust", "builder.pub")
    assert ended.status == 0
    assert ended.out.splitlines()[-1].startswith("10. ok")
    found = json.loads(run("inspect", bundle, "--json").out)
    assert len(found["signed_by_key_ids"]) == 1
    assert found["verified"] is False
    assert {one["name"]: one["installed"] for one in found["components"]} == {
        "kubernetes": True,
        "local-path-provisioner": True,
        "minio": False,  # of a phase that this version does not know
    }
    shown = run("inspect", bundle).out
    assert shown.count("carried, not installed by this version") == 1
    assert sum(found["licences"].values()) == len(found["items"])


def test_pack_and_verify_volume_fit_together(run: Runner, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    ended = run("pack", bundle.root, "--out", "volumes", "--volume-size", "1MiB")
    assert ended.status == 0
    assert "2026.11.v001.tar" in ended.out
    assert "written" in ended.out
    assert "next: carry them to the site; there: tar xf 2026.11.v001.tar" in ended.err
    again = run("pack", bundle.root, "--out", "volumes", "--volume-size", "1MiB", "--json")
    assert [each["written"] for each in json.loads(again.out)["packed"]] == [False]
    ended = run("verify-volume", "volumes", "--trust", bundle.public_key)
    assert ended.status == 0
    assert "volume 1 of 1 of 2026.11" in ended.out


def test_parity_volumes_give_back_a_lost_volume(run: Runner, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    pack = ("pack", bundle.root, "--out", "volumes", "--volume-size", "1MiB", "--parity", "1")
    assert "2026.11.p001.tar" in run(*pack).out
    lost = tmp_path / "volumes/2026.11.v001.tar"
    data = lost.read_bytes()
    lost.unlink()
    assert (
        "parity volume 1 of 1" in run("verify-volume", "volumes", "--trust", bundle.public_key).out
    )
    ended = run("repair", "volumes")
    assert ended.status == 0
    assert "1 of 1 volumes were rebuilt" in ended.out
    assert lost.read_bytes() == data


def test_keygen_never_overwrites(run: Runner) -> None:
    assert run("keygen", "--out", "k.key").status == 0
    ended = run("keygen", "--out", "k.key")
    assert ended.status == 2
    assert "error[key-exists]" in ended.err


def test_a_key_with_a_password_needs_it(run: Runner, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", sign=False).root
    (tmp_path / "pw").write_text("correct horse\n")
    (tmp_path / "wrong").write_text("wrong\n")
    assert run("keygen", "--out", "k.key", "--password-file", "pw").status == 0
    assert "error[password-needed]" in run("sign", bundle, "--key", "k.key").err
    wrong = run("sign", bundle, "--key", "k.key", "--password-file", "wrong")
    assert (wrong.status, "error[wrong-password]" in wrong.err) == (5, True)
    assert run("sign", bundle, "--key", "k.key", "--password-file", "pw").status == 0


def test_verify_names_the_step_that_failed(run: Runner, tmp_path: Path) -> None:
    key = make_key(tmp_path)
    bundle = make_bundle(tmp_path / "bundle", key=key).root
    with (bundle / INDEX).open("ab") as stream:
        stream.write(b" ")
    ended = run("verify", bundle, "--trust", key.with_suffix(".pub"))
    assert ended.status == 4
    assert " 5. FAILED" in ended.out
    assert " 6. not reached" in ended.out
    assert "error[digest-mismatch]" in ended.err


def test_an_empty_trust_folder_ends_with_status_5(run: Runner, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle").root
    (tmp_path / "trust").mkdir()
    ended = run("verify", bundle, "--trust", "trust")
    assert ended.status == 5
    assert "error[empty-trust]" in ended.err
