"""verify.sh: its arguments, keys and thresholds. Damaged bundles are in tests/vectors."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.bundles import SmallBundle, make_bundle, make_key

from perimeter_bundle.format import layout
from perimeter_bundle.format.signature import public_key_path, sign_bundle


def verify(
    bundle: SmallBundle, *arguments: str | Path, path: str = "/usr/bin:/bin"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(bundle.file(layout.VERIFY_SCRIPT)), *map(str, arguments)],
        env={"PATH": path, "XDG_STATE_HOME": str(bundle.root.parent / "state")},
        cwd=bundle.root.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> SmallBundle:
    return make_bundle(tmp_path)


def test_a_folder_of_keys_and_relative_paths_will_do(bundle: SmallBundle) -> None:
    (bundle.trust_folder / "trust.toml").write_text("")
    result = verify(bundle, "trust")
    assert result.returncode == 0, result.stderr
    assert "its trust.toml is not read here" in result.stdout


def test_the_record_names_the_keys_and_is_private(bundle: SmallBundle) -> None:
    assert verify(bundle, bundle.public_key).returncode == 0
    (record,) = (bundle.root.parent / "state/perimeter/verified").iterdir()
    assert bundle.file(layout.signature_path(record.read_text().strip())).exists()
    assert record.stat().st_mode & 0o777 == 0o600


def test_nothing_is_left_in_the_temporary_folder(bundle: SmallBundle, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = ["/bin/sh", str(bundle.file(layout.VERIFY_SCRIPT)), str(bundle.public_key)]
    for name in ("a", "b"):
        environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(scratch), "HOME": str(tmp_path)}
        environment["XDG_STATE_HOME"] = str(tmp_path / name)
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    assert list(scratch.iterdir()) == []


def test_one_of_several_keys_is_enough_unless_more_are_asked_for(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "keys", "other")
    keys = (bundle.public_key, public_key_path(other))
    assert "signed by 1 of the given keys" in verify(bundle, *keys).stdout
    refused = verify(bundle, "--threshold", "2", *keys)
    assert refused.returncode == 5
    assert "error[not-trusted]: 1 of the given keys signed this bundle; 2 must" in refused.stderr
    sign_bundle(bundle.root, other)
    assert verify(bundle, "--threshold", "2", *keys).returncode == 0


def test_the_same_key_twice_counts_once(bundle: SmallBundle, tmp_path: Path) -> None:
    shutil.copy(bundle.public_key, tmp_path / "again.pub")
    result = verify(bundle, "--threshold", "2", bundle.public_key, tmp_path / "again.pub")
    assert result.returncode == 5


def test_a_key_out_of_the_bundle_is_never_believed(bundle: SmallBundle, tmp_path: Path) -> None:
    shutil.copy(bundle.public_key, bundle.file("content/builder.pub"))
    bundle.reseal()
    (tmp_path / "link.pub").symlink_to(bundle.file("content/builder.pub"))
    for key in (bundle.file("content/builder.pub"), tmp_path / "link.pub"):
        result = verify(bundle, key)
        assert result.returncode == 5
        assert "error[bundled-key]" in result.stderr


def test_refuses_keys_that_are_none(bundle: SmallBundle, tmp_path: Path) -> None:
    p384 = ec.generate_private_key(ec.SECP384R1()).public_key()
    other_curve = p384.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    good = bundle.public_key.read_bytes()
    empty = tmp_path / "empty"
    empty.mkdir()
    for data, code in (
        (other_curve, "bad-key"),
        (good + good, "bad-key"),
        (b"", "bad-key"),
        (good.replace(b"\nM", b"\nN", 1), "bad-key"),
        (bundle.key.read_bytes(), "private-key"),
    ):
        (tmp_path / "x.pub").write_bytes(data)
        result = verify(bundle, tmp_path / "x.pub")
        assert (result.returncode, f"error[{code}]" in result.stderr) == (5, True), result.stderr
    assert "error[bad-key]" in verify(bundle, tmp_path / "none.pub").stderr
    assert "error[empty-trust]" in verify(bundle, empty).stderr


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ((), 2, "name the key you trust"),
        (("--what",), 2, "unknown option --what"),
        (("--threshold",), 2, "--threshold needs a number"),
        (("--threshold", "0", "x"), 2, "--threshold needs a number from 1 up"),
        (("--threshold", "x", "x"), 2, "--threshold needs a number from 1 up"),
        (("--help",), 0, "What must hold, in this order:"),
        (("--", "-none.pub"), 5, "-none.pub is not a file"),
    ],
)
def test_verify_script_explains_itself(
    arguments: tuple[str, ...], status: int, text: str, bundle: SmallBundle
) -> None:
    result = verify(bundle, *arguments)
    assert result.returncode == status
    assert text in result.stdout + result.stderr


def test_a_missing_tool_is_named(bundle: SmallBundle, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "sha256sum", "find", "sort", "cut", "tr", "sed", "grep"):
        (tools / name).symlink_to(shutil.which(name) or name)
    result = verify(bundle, bundle.public_key, path=str(tools))
    assert result.returncode == 2
    assert "error[missing-tool]: openssl is not installed" in result.stderr


def test_a_record_that_cannot_be_written_is_a_warning(bundle: SmallBundle) -> None:
    (bundle.root.parent / "state").write_text("a file where a folder should be")
    result = verify(bundle, bundle.public_key)
    assert result.returncode == 0
    assert "bootstrap.sh will refuse" in result.stderr


def test_only_the_named_tools_are_used(bundle: SmallBundle, tmp_path: Path) -> None:
    """openssl, coreutils, findutils, grep and sed: what every distribution installs first."""
    tools = tmp_path / "bin"
    tools.mkdir()
    coreutils = ["sha256sum", "sort", "comm", "cut", "tr", "od", "wc", "tail", "readlink"]
    coreutils += ["mktemp", "dirname", "rm", "mkdir", "cp", "mv", "id", "du", "sleep"]
    for name in ("openssl", "find", "grep", "sed", *coreutils):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    result = verify(bundle, bundle.public_key, path=str(tools))
    assert (result.returncode, result.stderr) == (0, "")
    assert os.listdir(bundle.root.parent / "state/perimeter/verified")  # noqa: PTH208
