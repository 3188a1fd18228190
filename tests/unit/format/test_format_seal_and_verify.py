"""Sealing a tree, and opening what was sealed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from tests.support.bundles import SmallBundle, make_bundle, make_key
from tests.vectors.damaged import flip

from perimeter_bundle.format import layout
from perimeter_bundle.format.extent import Extent
from perimeter_bundle.format.manifest import ItemKind
from perimeter_bundle.format.seal import seal
from perimeter_bundle.format.signature import public_key_path, sign_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import BlobBytes, VerifiedBundle, open_bundle, verify_report
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError, TrustError
from perimeter_bundle.model.events import Event, EventKind


def refused(bundle: SmallBundle, trust: Trust, **options: object) -> TrustError:
    with pytest.raises(TrustError) as caught:
        open_bundle(bundle.root, trust, **options)  # type: ignore[arg-type]
    return caught.value


def test_sealing_twice_changes_nothing(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    before = bundle.file(layout.SUMS).read_bytes()
    assert seal(bundle.root) == Digest.of_bytes(before)
    assert bundle.file(layout.SUMS).read_bytes() == before
    open_bundle(bundle.root, bundle.trust)


def test_the_same_content_gives_the_same_sums(tmp_path: Path) -> None:
    one, two = make_bundle(tmp_path / "one"), make_bundle(tmp_path / "two")
    assert one.file(layout.SUMS).read_bytes() == two.file(layout.SUMS).read_bytes()


def test_sealing_a_changed_tree_removes_signatures_that_are_no_longer_true(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    bundle.file("content/new").write_bytes(b"x")
    events: list[Event] = []
    seal(bundle.root, on_event=events.append)
    assert list(bundle.file(layout.SIGNATURES).iterdir()) == []
    (warning,) = [event for event in events if event.kind is EventKind.WARNING]
    assert "2 files of old signatures were removed" in warning.message
    assert refused(bundle, bundle.trust).code == "not-trusted"
    bundle.reseal()
    open_bundle(bundle.root, bundle.trust)


def test_an_unsigned_change_before_any_signature_is_silent(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, sign=False)
    bundle.file("content/new").write_bytes(b"x")
    events: list[Event] = []
    seal(bundle.root, on_event=events.append)
    assert EventKind.WARNING not in {event.kind for event in events}


def test_scripts_are_executable_and_posix(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    for name in (layout.VERIFY_SCRIPT, layout.BOOTSTRAP_SCRIPT):
        assert bundle.file(name).stat().st_mode & 0o777 == 0o755
        assert bundle.file(name).read_bytes().startswith(b"#!/bin/sh\n")


def test_an_opened_bundle_gives_out_what_was_verified(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    bundle = open_bundle(small.root, small.trust)
    assert bundle.manifest == small.manifest
    assert bundle.lock == small.lock
    assert bundle.identity == Digest.of_bytes(small.file(layout.SUMS).read_bytes())
    assert [key.name for key in bundle.signers] == ["builder.pub"]
    payload = small.manifest.items[0].payload
    assert bundle.blob(payload) == small.root / layout.blob_path(payload)
    size_bytes = small.file(layout.blob_path(payload)).stat().st_size
    assert bundle.extents(payload) == (Extent(bundle.blob(payload), 0, size_bytes),)
    assert bundle.path(layout.ROLES) == small.root / layout.ROLES
    assert bundle.read(layout.LOCK) == small.lock.to_bytes()
    assert list(bundle.files_below(layout.PLAYBOOKS)) == ["content/playbooks/site.yml"]
    assert "maker" not in repr(bundle)


@pytest.mark.parametrize(
    "name", ["content/none", "../trust/builder.pub", "/etc/passwd", "content/"]
)
def test_an_opened_bundle_gives_out_nothing_else(name: str, tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    bundle = open_bundle(small.root, small.trust)
    with pytest.raises(InputError, match="is not in this bundle") as caught:
        bundle.path(name)
    assert caught.value.code == "not-in-bundle"


@pytest.mark.parametrize("changed", [b"version = 9\n", b"#" * 100_000])
def test_what_changes_after_opening_is_refused_when_read(changed: bytes, tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    bundle = open_bundle(small.root, small.trust)
    small.file(layout.LOCK).write_bytes(changed)
    with pytest.raises(IntegrityError):
        bundle.read(layout.LOCK)


def flip_a_layer(small: SmallBundle) -> Digest:
    """Changes one bit of a blob that no step reads."""
    payload = small.manifest.items_of(ItemKind.FILE)[0].payload
    flip(small.file(layout.blob_path(payload)), -1)
    return payload


def test_a_changed_blob_left_for_later_is_refused_by_whoever_uses_it(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    payload = flip_a_layer(small)
    bundle = open_bundle(small.root, small.trust, blobs=BlobBytes.LATER)
    with pytest.raises(IntegrityError, match="not the bytes that were signed") as read:
        bundle.read(layout.blob_path(payload))
    with pytest.raises(IntegrityError, match="not the bytes that were signed") as checked:
        bundle.check_blobs([payload])
    assert read.value.code == checked.value.code == "digest-mismatch"
    assert read.value.context["expected"] == str(payload)


def test_blobs_hashed_at_once_are_not_hashed_again_for_playbooks(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    bundle = open_bundle(small.root, small.trust)
    bundle.check_blobs([flip_a_layer(small)])


def test_nothing_outside_the_bundle_is_checked_as_a_blob(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    bundle = open_bundle(small.root, small.trust, blobs=BlobBytes.LATER)
    with pytest.raises(InputError, match="is not in this bundle"):
        bundle.check_blobs([Digest.of_bytes(b"none")])


def test_leaving_blobs_for_later_is_said_in_its_step(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    events: list[Event] = []
    open_bundle(small.root, small.trust, blobs=BlobBytes.LATER, on_event=events.append)
    (note,) = [event for event in events if event.kind is EventKind.NOTE]
    assert "of blobs are checked as they are used" in note.message


def test_a_folder_is_not_read_as_a_file(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    with pytest.raises(IntegrityError, match="cannot read"):
        open_bundle(small.root, small.trust).read(layout.ROLES)


def test_nobody_else_makes_a_verified_bundle(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    bundle = open_bundle(small.root, small.trust)
    with pytest.raises(TypeError, match=r"only open_bundle\(\)"):
        dataclasses.replace(bundle, maker=object())
    with pytest.raises(TypeError, match="missing"):
        VerifiedBundle(small.root, small.manifest, small.lock)  # type: ignore[call-arg]


def test_a_linked_bundle_folder_is_opened_where_it_is(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    (tmp_path / "current").symlink_to(small.root)
    assert open_bundle(tmp_path / "current", small.trust).root == small.root.resolve()


def test_what_is_no_folder_is_no_bundle(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    with pytest.raises(InputError, match="is not a folder") as caught:
        open_bundle(tmp_path / "none", small.trust)
    assert caught.value.code == "no-bundle"


def test_a_linked_signature_folder_is_refused(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    small.file(layout.SIGNATURES).rename(tmp_path / "elsewhere")
    small.file(layout.SIGNATURES).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="not a signature"):
        open_bundle(small.root, small.trust)


def test_a_signature_without_its_sigstore_form_is_enough(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    next(small.file(layout.SIGNATURES).glob("*.json")).unlink()
    open_bundle(small.root, small.trust)


def test_going_back_is_refused_unless_asked_for(tmp_path: Path) -> None:
    small = make_bundle(tmp_path, number=3)
    open_bundle(small.root, small.trust.not_before(3))
    later = small.trust.not_before(4)
    error = refused(small, later)
    assert error.code == "older-release"
    assert error.context == {"number": "3", "lowest accepted": "4"}
    events: list[Event] = []
    open_bundle(small.root, later, allow_older=True, on_event=events.append)
    assert "below 4" in events[-1].message
    assert events[-1].kind is EventKind.WARNING


def test_a_bundle_says_which_installer_it_needs(tmp_path: Path) -> None:
    small = make_bundle(tmp_path, minimum_installer="1.2")
    open_bundle(small.root, small.trust, installer_version="1.2.0")
    open_bundle(small.root, small.trust, installer_version="1.10.dev3")
    with pytest.raises(IntegrityError, match=r"needs perimeter 1\.2 or newer") as caught:
        open_bundle(small.root, small.trust, installer_version="1.1.9")
    assert caught.value.code == "installer-too-old"
    assert "bootstrap.sh" in (caught.value.hint or "")


TWO_PEOPLE = """
format = "perimeter-trust/1"
[threshold]
builder = 1
reviewer = 1
[[key]]
file = "builder.pub"
roles = ["builder"]
[[key]]
file = "reviewer.pub"
roles = ["reviewer"]
"""


def two_people(tmp_path: Path) -> tuple[SmallBundle, Path]:
    small = make_bundle(tmp_path)
    reviewer = make_key(tmp_path / "keys", "reviewer")
    shutil.copy(public_key_path(reviewer), small.trust_folder / "reviewer.pub")
    (small.trust_folder / "trust.toml").write_text(TWO_PEOPLE)
    return small, reviewer


def test_a_reviewer_must_have_signed_when_the_site_asks_for_it(tmp_path: Path) -> None:
    small, reviewer = two_people(tmp_path)
    error = refused(small, small.trust)
    assert error.code == "not-trusted"
    assert "0 trusted reviewer keys signed this bundle; 1 must" in error.message
    sign_bundle(small.root, reviewer)
    signers = {key.name for key in open_bundle(small.root, small.trust).signers}
    assert signers == {"builder.pub", "reviewer.pub"}


def test_a_signature_counts_only_in_its_own_role(tmp_path: Path) -> None:
    small, reviewer = two_people(tmp_path)
    shutil.rmtree(small.file(layout.SIGNATURES))
    sign_bundle(small.root, reviewer)
    assert "0 trusted builder keys" in refused(small, small.trust).message


def test_a_bad_trusted_signature_is_refused_even_when_others_suffice(tmp_path: Path) -> None:
    small, reviewer = two_people(tmp_path)
    sign_bundle(small.root, reviewer)
    (small.trust_folder / "trust.toml").unlink()
    for path in small.file(layout.SIGNATURES).glob("*.sigstore.json"):
        path.unlink()
    first, second = sorted(small.file(layout.SIGNATURES).iterdir())
    first.write_bytes(second.read_bytes())
    assert refused(small, small.trust).code == "bad-signature"


def test_a_stranger_s_signature_is_counted_but_does_not_matter(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    stranger = make_key(tmp_path / "strangers", "stranger")
    sign_bundle(small.root, stranger)
    report = verify_report(small.root, small.trust)
    assert report.bundle is not None
    assert "1 unknown keys" in report.steps[2].detail


def test_the_report_says_how_far_it_got(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    report = verify_report(small.root, small.trust)
    assert [step.number for step in report.steps] == list(range(1, 11))
    assert all(step.passed for step in report.steps)
    assert report.error is None
    assert report.steps[3].to_dict() == {
        "number": 4,
        "title": "exactly the listed files are there",
        "passed": True,
        "detail": "32 files, none missing, none added",
        "error": None,
    }
    small.file(layout.LOCK).unlink()
    report = verify_report(small.root, small.trust)
    assert [step.passed for step in report.steps] == [True] * 3 + [False] + [None] * 6
    assert report.error is not None
    assert report.steps[3].to_dict()["error"] == report.error.to_dict()


def test_progress_is_reported_while_bytes_are_checked(tmp_path: Path) -> None:
    small = make_bundle(tmp_path)
    events: list[Event] = []
    open_bundle(small.root, small.trust, on_event=events.append, workers=2)
    assert [event.kind for event in (events[0], events[-1])] == [EventKind.START, EventKind.FINISH]
    assert events[-1].done_items == events[-1].total_items == 32
