"""inventory.json and base.json: strict, signed, deterministic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perimeter_bundle.format.base import Base, LeftOut
from perimeter_bundle.format.inventory import (
    MAX_BLOB_BYTES,
    HeldRepository,
    Inventory,
    LoadedRelease,
    Uneven,
    VerifiedInventory,
    open_inventory,
    write_inventory,
)
from perimeter_bundle.format.signature import generate_key
from perimeter_bundle.format.signed_file import signature_file
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError, PerimeterError

LAYER, MANIFEST, ODD = (Digest.of_bytes(data) for data in (b"layer", b"manifest", b"odd"))
INVENTORY = Inventory(
    site="plant",
    made_at="2026-11-23T04:30:00Z",
    replicas=("n1", "n2"),
    hashed=False,
    releases=(LoadedRelease(3, "2026.11", Digest.of_bytes(b"sums")),),
    repositories=(
        HeldRepository("quay.io/minio/minio", {LAYER: 5}, {MANIFEST: 8}),
        HeldRepository("docker.io/library/busybox", {LAYER: 5}, {}),
    ),
    uneven=(Uneven("quay.io/minio/minio", ODD, ("n2",)),),
)
BASE = Base(
    Digest.of_bytes(b"inventory"),
    "plant",
    "2026-11-23T04:30:00Z",
    (LeftOut(LAYER, 5, "quay.io/minio/minio", ("quay.io/minio/minio:1",)),),
)


def document(value: Inventory | Base = INVENTORY) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(value.to_bytes())
    return parsed


def refused(change: Callable[[dict[str, Any]], object]) -> PerimeterError:
    table = document()
    change(table)
    with pytest.raises(PerimeterError) as caught:
        Inventory.parse(json.dumps(table).encode())
    return caught.value


@pytest.fixture
def written(tmp_path: Path) -> Path:
    generate_key(tmp_path / "site.key")
    write_inventory(INVENTORY, tmp_path / "inventory.json", tmp_path / "site.key")
    return tmp_path / "inventory.json"


def test_an_inventory_reads_back_and_gives_the_same_bytes() -> None:
    again = Inventory.parse(INVENTORY.to_bytes())
    assert again.to_bytes() == INVENTORY.to_bytes()
    assert again.blobs == {LAYER: 5}
    assert again.uneven == INVENTORY.uneven and again.releases == INVENTORY.releases


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format="perimeter-site-facts/1"), "not an inventory of a format"),
        (lambda d: d.update(password="x"), "unknown key 'password'"),
        (lambda d: d.pop("repositories"), "repositories is missing"),
        (lambda d: d.update(site="../etc"), "is not the name of a site"),
        (lambda d: d.update(made_at="yesterday"), "is not a time"),
        (lambda d: d.update(hashed="yes"), "hashed must be true or false"),
        (lambda d: d.update(replicas=[]), "no replica was asked"),
        (lambda d: d.update(replicas=["n1", "n1"]), "replica n1 stands there twice"),
        (lambda d: d.update(replicas=["n1\x1b[2J"]), "is not a plain line"),
        (lambda d: d["repositories"][0].update(name="busybox"), "not a host and a repository"),
        (lambda d: d["repositories"][0].update(name="quay.io/a/../b"), "not a host and a repo"),
        (lambda d: d["repositories"].append(d["repositories"][0]), "stands there twice"),
        (lambda d: d["repositories"][0]["blobs"].update({"sha256:12": 1}), "not a digest"),
        (lambda d: d["repositories"][0]["blobs"].update({str(LAYER): -1}), "a number from 0 up"),
        (lambda d: d["repositories"][0]["blobs"].update({str(LAYER): 6}), "elsewhere 6"),
        (
            lambda d: d["repositories"][0]["blobs"].update({str(ODD): MAX_BLOB_BYTES + 1}),
            "which none has",
        ),
        (
            lambda d: d["repositories"][1]["blobs"].update({str(ODD): 3}),
            "is both held and not",
        ),
    ],
)
def test_refuses_what_no_honest_site_writes(
    change: Callable[[dict[str, Any]], object], said: str
) -> None:
    error = refused(change)
    assert isinstance(error, InputError) and error.code == "bad-inventory"
    assert said in str(error)


def test_refuses_keys_that_stand_there_twice_and_files_that_are_cut_or_too_large() -> None:
    data = INVENTORY.to_bytes()
    for bad in (
        data.replace(b'"site"', b'"site": "other",\n  "site"'),
        data[: len(data) // 2],
        b" " * (64 * MIB) + data,
    ):
        with pytest.raises(IntegrityError) as caught:
            Inventory.parse(bad)
        assert caught.value.code == "bad-json"


def test_only_what_a_trusted_key_signed_is_opened(written: Path, tmp_path: Path) -> None:
    trust = Trust.load(tmp_path / "site.pub")
    opened = open_inventory(written, trust)
    assert opened.inventory.to_bytes() == INVENTORY.to_bytes()
    assert opened.digest == Digest.of_bytes(written.read_bytes())
    with pytest.raises(TypeError, match="only open_inventory"):
        VerifiedInventory(opened.inventory, opened.digest, opened.signer, object())
    generate_key(tmp_path / "stranger.key")
    with pytest.raises(PerimeterError, match="no trusted key signed"):
        open_inventory(written, Trust.load(tmp_path / "stranger.pub"))
    written.write_bytes(written.read_bytes().replace(b'"plant"', b'"plans"'))
    with pytest.raises(PerimeterError, match="no trusted key signed"):
        open_inventory(written, trust)
    signature_file(written).unlink()
    with pytest.raises(PerimeterError, match="there is no signature"):
        open_inventory(written, trust)
    written.unlink()
    with pytest.raises(InputError, match="there is no file"):
        open_inventory(written, trust)


def test_an_inventory_nobody_could_read_is_not_signed(tmp_path: Path) -> None:
    generate_key(tmp_path / "site.key")
    bad = Inventory("Not A Site", "2026-11-23T04:30:00Z", ("n1",), False, (), ())
    with pytest.raises(InputError):
        write_inventory(bad, tmp_path / "inventory.json", tmp_path / "site.key")
    assert not (tmp_path / "inventory.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format="perimeter-base/2"), "expected 'perimeter-base/1'"),
        (lambda d: d.pop("blobs"), "blobs is missing"),
        (lambda d: d["blobs"].append(d["blobs"][0]), "stands there twice"),
        (lambda d: d["blobs"][0].update(repository="../x"), "not a host and a repository"),
        (lambda d: d["blobs"][0].update(size_bytes=MAX_BLOB_BYTES + 1), "which no blob has"),
        (lambda d: d["blobs"][0].update(url="https://x"), "unknown key 'url'"),
    ],
)
def test_refuses_a_base_that_no_builder_writes(
    change: Callable[[dict[str, Any]], object], said: str
) -> None:
    assert Base.parse(BASE.to_bytes()) == BASE
    table = document(BASE)
    change(table)
    with pytest.raises(IntegrityError) as caught:
        Base.parse(json.dumps(table).encode())
    assert caught.value.code == "bad-base"
    assert said in str(caught.value)
