"""What changes from one lock to another, as a person asks for it."""

from __future__ import annotations

from dataclasses import replace

from perimeter_bundle.collect.changes import ChangeKind, lock_changes
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import (
    FileKind,
    Lock,
    LockedChart,
    LockedFile,
    LockedImage,
    LockedSource,
)
from perimeter_bundle.model.locked_package import LockedPackage, PythonTarget
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference

AMD64 = Platform("linux", "amd64")


def digest_of(text: str) -> Digest:
    return Digest.of_bytes(text.encode())


def image(text: str, *components: str, size: int = 100, pinned: str | None = None) -> LockedImage:
    reference = ImageReference.parse(text)
    digest = digest_of(pinned or text)
    return LockedImage(reference, digest, "", {AMD64: digest}, size, components or ("shop",), ())


def lock(*images: LockedImage) -> Lock:
    return Lock("2026.11", 1, (AMD64,), images, (), ())


def test_another_tag_of_a_repository_is_one_change() -> None:
    changes = lock_changes(lock(image("a.io/x:1.0")), lock(image("a.io/x:1.1")))
    (change,) = changes.changes
    assert change.to_dict() == {
        "change": "changed",
        "kind": "image",
        "name": "a.io/x",
        "version": "",
        "before": ["1.0"],
        "now": ["1.1"],
        "components": ["shop"],
        "fetch_bytes": 100,
    }
    assert (changes.unchanged, changes.fetch_bytes) == (0, 100)


def test_what_comes_and_goes_is_told_with_what_must_be_fetched() -> None:
    changes = lock_changes(
        lock(image("a.io/x:1"), image("a.io/old:1", "b")),
        lock(image("a.io/x:1"), image("a.io/new:1", "c")),
    )
    assert [(c.kind, c.name, c.fetch_bytes) for c in changes.changes] == [
        (ChangeKind.ADDED, "a.io/new", 100),
        (ChangeKind.REMOVED, "a.io/old", 0),
    ]
    assert changes.unchanged == 1
    assert list(changes.by_component()) == ["b", "c"]


def test_the_same_name_with_other_bytes_has_moved_and_comes_first() -> None:
    changes = lock_changes(
        lock(image("a.io/x:1", pinned="before"), image("a.io/a:1")),
        lock(image("a.io/x:1", pinned="after"), image("a.io/a:2")),
    )
    first = changes.changes[0]
    assert (first.kind, first.name, first.version) == (ChangeKind.MOVED, "a.io/x", "1")
    assert first.before == (str(digest_of("before")),)
    assert first.now == (str(digest_of("after")),)


def test_bytes_that_are_there_already_need_no_fetching() -> None:
    old = lock(image("a.io/x:1", pinned="same"))
    new = lock(image("a.io/x:2", pinned="same"), image("a.io/y:1", pinned="same"))
    changes = lock_changes(old, new)
    assert changes.fetch_bytes == 0
    assert {change.fetch_bytes for change in changes.changes} == {0}
    twice = lock(image("a.io/y:1", pinned="new"), image("a.io/z:1", pinned="new"))
    assert lock_changes(old, twice).fetch_bytes == 100


def test_a_repository_at_several_tags_is_one_change_with_all_of_them() -> None:
    changes = lock_changes(
        lock(image("a.io/x:1"), image("a.io/x:2")),
        lock(image("a.io/x:2"), image("a.io/x:3"), image("a.io/x:4")),
    )
    (change,) = changes.changes
    assert (change.before, change.now) == (("1",), ("3", "4"))
    assert changes.unchanged == 1


def test_charts_and_files_change_too_and_each_platform_by_itself() -> None:
    def of(version: str) -> Lock:
        chart = LockedChart("web", version, "shop", "https://x.io", "", digest_of(version), 5)
        tool = LockedFile(
            "tool", version, "shop", FileKind.FILE, AMD64, "https://x.io", digest_of("tool"), 7
        )
        crds = LockedFile(
            "crds", "1", "shop", FileKind.MANIFEST, None, "https://x.io", digest_of(version), 2
        )
        return replace(lock(), charts=(chart,), files=(tool, crds))

    changes = lock_changes(of("1.0"), of("1.1"))
    assert [(c.kind.value, c.what, c.name, c.fetch_bytes) for c in changes.changes] == [
        ("moved", "manifest", "shop/crds", 2),
        ("changed", "chart", "web", 5),
        ("changed", "file", "shop/tool (linux/amd64)", 0),
    ]


def test_a_lock_that_got_its_digests_is_resolved() -> None:
    bare = replace(image("a.io/x:1"), digest=None, manifests={})
    changes = lock_changes(lock(bare), lock(image("a.io/x:1")))
    assert [change.kind for change in changes.changes] == [ChangeKind.RESOLVED]
    assert lock_changes(lock(bare), lock(bare)).changes == ()
    assert lock_changes(lock(), lock()).unchanged == 0


def test_python_packages_of_a_site_change_too() -> None:
    def of(version: str, text: str) -> Lock:
        target = PythonTarget("3.12", AMD64)
        wheel = f"numpy-{version}-cp312-none-any.whl"
        package = LockedPackage("numpy", version, wheel, (target,), "", digest_of(text), 9)
        return replace(lock(), packages=(package,))

    (change,) = lock_changes(of("2.1", "a"), of("2.2", "b")).changes
    assert (change.kind, change.what, change.name) == (ChangeKind.CHANGED, "package", "numpy")
    assert (change.before, change.now, change.fetch_bytes) == (("2.1",), ("2.2",), 9)
    (change,) = lock_changes(of("2.1", "a"), of("2.1", "b")).changes
    assert (change.kind, change.name, change.version) == (ChangeKind.MOVED, "numpy", "2.1")


def test_a_git_tree_at_another_commit_is_told() -> None:
    def of(tag: str) -> Lock:
        source = LockedSource("manifests", tag, "https://x.io/m", "a" * 40, digest_of(tag), 3, ())
        return replace(lock(), sources=(source,))

    (change,) = lock_changes(of("26.02"), of("26.03")).changes
    assert (change.what, change.name, change.fetch_bytes) == ("source", "manifests", 3)
