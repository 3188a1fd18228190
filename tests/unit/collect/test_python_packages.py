"""A site's Python packages: what the lock says of them, and the pages pip reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perimeter_bundle.collect.python_index import index_pages
from perimeter_bundle.collect.python_packages import CarriedPackage
from perimeter_bundle.collect.wheelhouse import Wheel
from perimeter_bundle.format.agreement import lock_problems
from perimeter_bundle.format.manifest import BundleItem, BundleManifest, ItemKind, Room
from perimeter_bundle.format.oci import OciIndex
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.locked_package import LockedPackage, PythonTarget
from perimeter_bundle.model.platform import LINUX_AMD64

D = Digest.of_bytes(b"x")
TARGETS = (PythonTarget("3.12", LINUX_AMD64), PythonTarget("3.11", LINUX_AMD64))
TORCH = LockedPackage(
    *("torch", "2.5.1+cpu", "torch-2.5.1+cpu-cp312-cp312-linux_x86_64.whl"),
    *(TARGETS, "https://example.org/torch.whl", D, 3),
)
SIX = LockedPackage("six", "1.0", "six-1.0-py3-none-any.whl", TARGETS, "", D, 3)
LOCK = Lock("2026.11", 1, (LINUX_AMD64,), (), (), (), packages=(TORCH, SIX))


def manifest(*packages: LockedPackage) -> BundleManifest:
    items = tuple(
        BundleItem(
            *(ItemKind.WHEEL, f"content/python-index/{one.filename}", D, D, 3, (), "pip", "MIT"),
            *("workloads", ("workloads.yaml",), one.version),
        )
        for one in packages
    )
    return BundleManifest("2026.11", 1, "0.1.0", (), items, Room(1, 1, 1))


def carried(locked: LockedPackage, requires_python: str = "") -> CarriedPackage:
    wheel = Wheel(
        *(Path(locked.filename), locked.name, locked.version, D, 3, "MIT", ""),
        requires_python=requires_python,
    )
    return CarriedPackage(locked, wheel)


def test_packages_come_back_from_a_lock_as_they_were_written() -> None:
    assert Lock.parse(LOCK.to_bytes()) == LOCK
    swapped = replace(LOCK, packages=(SIX, replace(TORCH, targets=TARGETS[::-1])))
    assert swapped.to_bytes() == LOCK.to_bytes()


def test_a_requirement_without_a_file_is_unresolved() -> None:
    lock = replace(LOCK, packages=(replace(SIX, filename="", digest=None),))
    assert Lock.parse(lock.to_bytes()).unresolved() == ("six==1.0",)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("six-1.0-py3-none-any.whl", "../six-1.0-py3-none-any.whl"),
        ("six-1.0-py3-none-any.whl", "six-1.0.tar.gz"),
        ("six-1.0-py3-none-any.whl", ""),
        ('name = "six"', 'name = "Six_"'),
        ('version = "1.0"', 'version = "1.0; evil"'),
        ("3.12 linux/amd64", "2.7 linux/amd64"),
        ("3.12 linux/amd64", "3.12"),
        ("six-1.0-py3-none-any.whl", TORCH.filename),
        ("url = ", "extra = 1\nurl = "),
    ],
)
def test_refuses_a_package_that_is_none(before: str, after: str) -> None:
    text = replace(LOCK, packages=(SIX, TORCH)).to_bytes().decode()
    assert before in text
    with pytest.raises(InputError) as caught:
        Lock.parse(text.replace(before, after, 1).encode())
    assert caught.value.code == "bad-lock"


def test_lock_and_bundle_must_have_the_same_packages() -> None:
    nothing = OciIndex(())
    assert lock_problems(LOCK, manifest(TORCH, SIX), nothing) == []
    assert lock_problems(LOCK, manifest(TORCH), nothing) == [
        f"content/python-index/{SIX.filename}: the lock says {D}, bundle.json None"
    ]
    (problem,) = lock_problems(replace(LOCK, packages=()), manifest(SIX), nothing)
    assert problem.endswith(f"the lock says None, bundle.json {D}")
    other = replace(SIX, digest=Digest.of_bytes(b"y"))
    assert len(lock_problems(replace(LOCK, packages=(other,)), manifest(SIX), nothing)) == 1


def test_pages_are_relative_hashed_escaped_and_the_same_in_any_order() -> None:
    pages = index_pages([carried(TORCH, ">=3.8,<4"), carried(SIX)])
    assert pages == index_pages([carried(SIX), carried(TORCH, ">=3.8,<4")])
    assert sorted(pages) == [
        "simple/index.html",
        "simple/six/index.html",
        "simple/torch/index.html",
    ]
    assert b'<a href="six/">six</a>' in pages["simple/index.html"]
    assert (
        f'<a href="../../torch-2.5.1%2Bcpu-cp312-cp312-linux_x86_64.whl#sha256={D.hex}" '
        'data-requires-python="&gt;=3.8,&lt;4">torch-2.5.1+cpu-cp312-cp312-linux_x86_64.whl</a>'
    ).encode() in pages["simple/torch/index.html"]
