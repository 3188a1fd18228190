"""verify.sh with volumes: openssl, sha256sum and tar check a bundle that came in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.support.bundles import SmallBundle, make_bundle

from perimeter_bundle.format.volumes.pack import PackRequest, pack
from perimeter_bundle.format.volumes.read import Volume, open_volume
from perimeter_bundle.model.digest import Digest


@pytest.fixture
def bundle(tmp_path: Path) -> SmallBundle:
    """A bundle in volumes, with one blob in pieces; volume 1 and what spilled over is unpacked."""
    made = make_bundle(tmp_path / "made")
    for size in (100_000, 20_000, 1000):
        blob = os.urandom(size)
        made.file(f"blobs/sha256/{Digest.of_bytes(blob).hex}").write_bytes(blob)
    made.reseal()
    pack(PackRequest(made.root, tmp_path / "volumes", 70_000))
    subprocess.run(["tar", "xf", "volumes/2026.11.v001.tar"], cwd=tmp_path, check=True)
    return made


def verify(
    bundle: SmallBundle, *options: str, shell: str = "/bin/sh"
) -> subprocess.CompletedProcess[str]:
    folder = bundle.root.parents[1]
    return subprocess.run(
        [*shell.split(), "2026.11/verify.sh", *options, str(bundle.public_key)],
        env={"PATH": "/usr/bin:/bin", "XDG_STATE_HOME": str(folder / "state")},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def records(bundle: SmallBundle) -> list[Path]:
    return list((bundle.root.parents[1] / "state").rglob("verified/*"))


def blob_in(folder: Path, *, piece: bool) -> tuple[Volume, int, str]:
    """A volume with a blob that is in no other, where that begins, and its path."""
    for path in sorted(folder.glob("*.v*.tar"))[1:]:
        volume = open_volume(path)
        for member, extent in volume.extents:
            if member.path.startswith("blobs/") and bool(member.piece) is piece:
                return volume, extent.offset, member.path
    raise AssertionError("no such blob")


@pytest.mark.parametrize("shell", ["/bin/sh", "bash --posix", "busybox sh"])
def test_blobs_are_read_out_of_volumes(shell: str, bundle: SmallBundle) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip("is not installed")
    result = verify(bundle, "--volumes", "volumes", shell=shell)
    assert result.returncode == 0, result.stderr
    assert "blobs in volumes" in result.stdout
    listed = (bundle.root / "SHA256SUMS").read_text().count("\n")
    assert f"The bundle holds: {listed} files" in result.stdout
    assert len(records(bundle)) == 1


def test_without_volumes_the_blobs_are_missing(bundle: SmallBundle) -> None:
    result = verify(bundle)
    assert result.returncode == 4
    assert "error[missing-file]" in result.stderr
    assert records(bundle) == []


def test_volume_1_alone_is_enough_to_install_from(bundle: SmallBundle) -> None:
    result = verify(bundle, "--no-blobs")
    assert result.returncode == 0, result.stderr
    assert "The bundle holds but for" in result.stdout
    assert "blobs that are not here" in result.stdout
    assert len(records(bundle)) == 1


def test_bootstrap_takes_volume_1_alone_for_verified(bundle: SmallBundle, tmp_path: Path) -> None:
    def bootstrap() -> str:
        return subprocess.run(
            ["/bin/sh", "2026.11/bootstrap.sh", "--prefix", str(tmp_path / "prefix"), "--no-link"],
            env={
                "PATH": "/usr/bin:/bin",
                "XDG_STATE_HOME": str(tmp_path / "state"),
                "PYTHON": "no",
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stderr

    assert "error[not-verified]" in bootstrap()
    assert verify(bundle, "--no-blobs").returncode == 0
    assert "error[no-python]" in bootstrap()  # what is asked for next


def test_without_blobs_everything_else_is_still_checked(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    (tmp_path / "2026.11/index.json").unlink()
    assert "error[missing-file]" in verify(bundle, "--no-blobs").stderr
    assert "error[missing-file]" in verify(bundle, "--volumes", "volumes").stderr
    shutil.copy(bundle.file("manifest/bundle.json"), tmp_path / "2026.11/index.json")
    assert "error[digest-mismatch]" in verify(bundle, "--no-blobs").stderr
    shutil.copy(bundle.file("index.json"), tmp_path / "2026.11/index.json")
    (tmp_path / "2026.11/blobs/extra").write_text("x")
    assert "error[unlisted-file]" in verify(bundle, "--no-blobs").stderr
    (tmp_path / "2026.11/blobs/extra").unlink()
    blob = next((tmp_path / "2026.11/blobs/sha256").iterdir())
    blob.write_bytes(b"other")
    for options in (("--no-blobs",), ("--volumes", "volumes")):
        assert "error[digest-mismatch]" in verify(bundle, *options).stderr
    assert records(bundle) == []


@pytest.mark.parametrize("piece", [False, True])
def test_a_changed_byte_of_a_blob_in_a_volume_is_refused(
    piece: bool, bundle: SmallBundle, tmp_path: Path
) -> None:
    volume, offset, path = blob_in(tmp_path / "volumes", piece=piece)
    data = bytearray(volume.path.read_bytes())
    data[offset] ^= 1
    volume.path.write_bytes(data)
    result = verify(bundle, "--volumes", "volumes")
    assert result.returncode == 4
    assert f"error[digest-mismatch]: {path} in " in result.stderr
    assert volume.path.name in result.stderr
    assert records(bundle) == []


def test_a_missing_and_a_truncated_volume_are_refused(bundle: SmallBundle, tmp_path: Path) -> None:
    volume, offset, _ = blob_in(tmp_path / "volumes", piece=True)
    os.truncate(volume.path, offset + 600)
    result = verify(bundle, "--volumes", "volumes")
    assert result.returncode == 4
    assert records(bundle) == []
    volume.path.unlink()
    result = verify(bundle, "--volumes", "volumes")
    assert result.returncode == 4
    assert f"volumes that are not here: {volume.listing.number}" in result.stderr
    assert records(bundle) == []


@pytest.mark.parametrize("shell", ["/bin/sh", "busybox sh"])
def test_every_volume_that_is_missing_is_named(
    shell: str, bundle: SmallBundle, tmp_path: Path
) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip("is not installed")
    volume, _, _ = blob_in(tmp_path / "volumes", piece=False)
    number, last = volume.listing.number, volume.listing.total
    volume.path.unlink()
    result = verify(bundle, "--volumes", "volumes", shell=shell)
    assert f"listed files are missing; volumes that are not here: {number}\n" in result.stderr
    assert "bring them too" in result.stderr
    if last != number:
        (tmp_path / f"volumes/2026.11.v{last:03d}.tar").unlink()
        result = verify(bundle, "--volumes", "volumes", shell=shell)
        assert f"volumes that are not here: {number} {last}\n" in result.stderr


def test_the_same_volume_twice_changes_nothing(bundle: SmallBundle, tmp_path: Path) -> None:
    for number in (2, 3):
        name = tmp_path / f"volumes/2026.11.v{number:03d}.tar"
        shutil.copy(name, tmp_path / f"volumes/copy.v{number + 100}.tar")
    assert verify(bundle, "--volumes", "volumes").returncode == 0


def test_a_wrong_folder_of_volumes_is_said(bundle: SmallBundle, tmp_path: Path) -> None:
    assert verify(bundle, "--volumes", "nowhere").returncode == 2
    (tmp_path / "empty").mkdir()
    result = verify(bundle, "--volumes", "empty")
    assert result.returncode == 4
    assert "error[missing-file]" in result.stderr


def test_names_from_a_medium_are_neither_options_nor_scripts(
    bundle: SmallBundle, tmp_path: Path
) -> None:
    blob = Digest.of_bytes(b"x").hex
    for odd in ("a|e;touch owned;.v001.tar", "-a.v001.tar", "a b.v001.tar", "a\nb.v001.tar"):
        path = tmp_path / "volumes" / odd
        path.write_bytes(bytes(1024))
        result = verify(bundle, "--volumes", "volumes")
        assert result.returncode == 4
        assert "has an odd name" in result.stderr
        path.unlink()
    for member in ("--to-command=touch owned", "-x", "$(touch owned)", "2026.11/../..", "a b"):
        with tarfile.open(tmp_path / "volumes/a.v001.tar", "w") as archive:
            for path in tree_of_blobs(tmp_path):
                archive.addfile(tarfile.TarInfo(f"{member}/blobs/sha256/{path}"))
            archive.addfile(tarfile.TarInfo(f"{member}/blobs/sha256/{blob}"))
        assert verify(bundle, "--volumes", "volumes").returncode == 0
    assert list(tmp_path.rglob("owned")) == []


def tree_of_blobs(folder: Path) -> list[str]:
    volumes = [open_volume(path) for path in sorted((folder / "volumes").glob("2026*.tar"))]
    return [m.path.rpartition("/")[2] for v in volumes for m, _ in v.extents if "blobs/" in m.path]
