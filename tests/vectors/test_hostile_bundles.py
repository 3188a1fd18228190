"""Every way in which a bundle can be wrong is refused, by both programs and for its own reason."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest
from tests.support.bundles import SmallBundle, make_bundle
from tests.vectors.damaged import DAMAGED, Damage
from tests.vectors.lies import LIES, Lie, with_busybox

from perimeter_bundle.format import layout
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import BlobBytes, VerifiedBundle, open_bundle, verify_report
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import IntegrityError, TrustError


def run_verify_script(bundle: SmallBundle, *arguments: str) -> subprocess.CompletedProcess[str]:
    """verify.sh with real sh, openssl and sha256sum; its record goes beside the bundle."""
    return subprocess.run(
        ["sh", str(bundle.file("verify.sh")), *(arguments or (str(bundle.public_key),))],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XDG_STATE_HOME": str(bundle.root.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def records(bundle: SmallBundle) -> list[Path]:
    """What verify.sh wrote down for bootstrap.sh."""
    return sorted(bundle.root.parent.glob("perimeter/verified/*"))


def test_accepts_the_bundle_that_nobody_touched(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    assert open_bundle(bundle.root, bundle.trust).manifest == bundle.manifest
    result = run_verify_script(bundle)
    assert (result.returncode, result.stderr) == (0, "")
    assert "The bundle holds: 32 files, signed by 1 of the given keys." in result.stdout
    assert len(records(bundle)) == 1


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.name.replace(" ", "-"))
def test_open_bundle_refuses(damage: Damage, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    damage.do(bundle)
    with pytest.raises(damage.error) as caught:
        open_bundle(bundle.root, bundle.trust)
    assert type(caught.value) is damage.error
    assert caught.value.code == damage.code
    assert damage.message in str(caught.value)
    report = verify_report(bundle.root, bundle.trust)
    assert report.bundle is None
    assert report.error is not None
    assert str(report.error) == str(caught.value)


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.name.replace(" ", "-"))
def test_blobs_left_for_later_change_no_other_refusal(damage: Damage, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    damage.do(bundle)
    with pytest.raises(damage.error) as caught:
        opened = open_bundle(bundle.root, bundle.trust, blobs=BlobBytes.LATER)
        # only bytes of a blob that no step reads get this far: whoever uses it must refuse
        opened.check_blobs(Digest(f"sha256:{path.rpartition('/')[2]}") for path in blobs_of(opened))
    if damage.name in ("a truncated blob", "a blob with a byte more"):  # its manifest knows better
        assert caught.value.code == "incomplete"
        assert "bytes, 12 were announced" in str(caught.value)
        return
    assert caught.value.code == damage.code
    assert damage.message in str(caught.value)


def blobs_of(opened: VerifiedBundle) -> list[str]:
    """Path of every blob."""
    return list(opened.files_below(layout.BLOBS))


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.name.replace(" ", "-"))
def test_verify_script_refuses(damage: Damage, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    damage.do(bundle)
    result = run_verify_script(bundle)
    assert f"error[{damage.script_code or damage.code}]" in result.stderr
    assert result.returncode == {IntegrityError: 4, TrustError: 5}[damage.error]
    assert "The bundle holds" not in result.stdout
    assert records(bundle) == []


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name.replace(" ", "-"))
def test_open_bundle_refuses_signed(lie: Lie, tmp_path: Path) -> None:
    bundle = lie.build(tmp_path)
    with pytest.raises(IntegrityError) as caught:
        open_bundle(bundle.root, bundle.trust)
    assert caught.value.code == lie.code
    assert lie.problem in str(caught.value)


def test_an_artifact_that_runs_nowhere_is_not_asked_for_its_platform(tmp_path: Path) -> None:
    wasm = "application/vnd.wasm.config.v0+json"
    bundle = with_busybox(
        lambda old: dataclasses.replace(
            old, config=dataclasses.replace(old.config, media_type=wasm)
        ).to_bytes(),
        {},
    )(tmp_path)
    open_bundle(bundle.root, bundle.trust)


def test_a_bundle_of_the_first_format_is_opened_for_ever() -> None:
    folder = Path(__file__).parent / "bundle-1"
    bundle = open_bundle(folder / "2026.11", Trust.load(folder / "trust"))
    assert (bundle.manifest.format, bundle.manifest.release) == ("perimeter-bundle/1", "2026.11")
    assert len(bundle.manifest.items) == 7
