"""Site facts: written, signed, read back; everything hostile is refused by name."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perimeter_bundle.format.signature import PublicKey, generate_key
from perimeter_bundle.format.signed_file import signature_file
from perimeter_bundle.format.site_facts import (
    MAX_HOSTS,
    DriverChoice,
    Gpu,
    HostDisc,
    HostProfile,
    Machine,
    PrecompiledChoice,
    SiteFacts,
    SiteHost,
    VerifiedSiteFacts,
    group_hosts,
    open_site_facts,
    write_site_facts,
)
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, PerimeterError, TrustError

GPU = Machine(
    groups=("gpu", "worker"),
    os_id="ubuntu",
    os_version="22.04",
    kernel="5.15.0-78-generic",
    architecture="amd64",
    gpus=(Gpu("10de:2330", "H100 SXM5 80GB", 8),),
    secure_boot="off",
    runtimes=("containerd",),
)
CPU = Machine(("control_plane",), "debian", "", "6.1.0-18-amd64", "amd64")
DISC = HostDisc("/var/lib/containerd", 10, 20)


def make_facts() -> SiteFacts:
    return SiteFacts(
        "plant",
        DriverChoice.CONTAINER,
        PrecompiledChoice.PREFER,
        group_hosts(
            [
                (GPU, SiteHost("n5", (DISC,))),
                (CPU, SiteHost("n1")),
                (GPU, SiteHost("n4")),
            ]
        ),
    )


def refused(do: Callable[[], object], code: str) -> PerimeterError:
    with pytest.raises(PerimeterError) as caught:
        do()
    assert caught.value.code == code
    return caught.value


def document() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(make_facts().to_bytes())
    return value


def parse(value: object) -> SiteFacts:
    return SiteFacts.parse(json.dumps(value).encode())


@pytest.fixture
def key(tmp_path: Path) -> PublicKey:
    return generate_key(tmp_path / "site.key")


def written(tmp_path: Path) -> Path:
    path = tmp_path / "site-facts.json"
    write_site_facts(make_facts(), path, tmp_path / "site.key")
    return path


def test_facts_read_back_are_the_same_and_give_the_same_bytes() -> None:
    facts = make_facts()
    again = SiteFacts.parse(facts.to_bytes())
    assert again == facts
    assert again.to_bytes() == facts.to_bytes()


def test_hosts_that_are_alike_share_a_profile_whatever_their_order() -> None:
    profiles = make_facts().profiles
    assert [(p.name, p.host_names) for p in profiles] == [("cpu-1", "n1"), ("gpu-1", "n4, n5")]
    pairs = [(p.machine, host) for p in profiles for host in p.hosts]
    assert group_hosts(reversed(pairs)) == profiles


def test_a_host_of_the_group_gpu_is_a_gpu_profile_even_without_a_gpu() -> None:
    machine = Machine(("gpu", "worker"), "ubuntu", "22.04", "6.8.0", "amd64")
    assert [p.name for p in group_hosts([(machine, SiteHost("n1"))])] == ["gpu-1"]
    assert machine.text == "ubuntu 22.04, kernel 6.8.0, amd64"
    assert CPU.text == "debian, kernel 6.1.0-18-amd64, amd64"


def test_what_was_signed_is_opened_and_openssl_agrees(tmp_path: Path, key: PublicKey) -> None:
    path = written(tmp_path)
    opened = open_site_facts(path, Trust.load(tmp_path / "site.pub"))
    assert opened.facts == make_facts()
    assert opened.signer.key == key
    assert opened.digest == Digest.of_bytes(path.read_bytes())
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", tmp_path / "site.pub",
         "-signature", signature_file(path), path],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.stdout == b"Verified OK\n"


def test_nobody_else_makes_verified_facts(tmp_path: Path, key: PublicKey) -> None:
    opened = open_site_facts(written(tmp_path), Trust.load(tmp_path / "site.pub"))
    with pytest.raises(TypeError, match="only open_site_facts"):
        VerifiedSiteFacts(opened.facts, opened.digest, opened.signer, object())


def test_a_changed_byte_is_refused_before_anything_is_read(tmp_path: Path, key: PublicKey) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"5.15.0-78", b"5.15.0-79"))
    error = refused(lambda: open_site_facts(path, Trust.load(tmp_path / "site.pub")), "not-trusted")
    assert "no trusted key signed site-facts.json" in error.message
    path.write_bytes(b"not even JSON")
    refused(lambda: open_site_facts(path, Trust.load(tmp_path / "site.pub")), "not-trusted")


def test_every_flipped_bit_of_facts_and_signature_is_refused(
    tmp_path: Path, key: PublicKey
) -> None:
    path = written(tmp_path)
    trust = Trust.load(tmp_path / "site.pub")
    for file in (path, signature_file(path)):
        good = file.read_bytes()
        for place in range(0, len(good), 7):
            file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            refused(lambda: open_site_facts(path, trust), "not-trusted")
        file.write_bytes(good)
    open_site_facts(path, trust)


def test_a_key_that_travels_along_is_worth_nothing(tmp_path: Path, key: PublicKey) -> None:
    path = written(tmp_path)
    generate_key(tmp_path / "other.key")
    error = refused(
        lambda: open_site_facts(path, Trust.load(tmp_path / "other.pub")), "not-trusted"
    )
    assert isinstance(error, TrustError)
    assert "way you trust" in (error.hint or "")


def test_missing_files_are_named(tmp_path: Path, key: PublicKey) -> None:
    trust = Trust.load(tmp_path / "site.pub")
    path = tmp_path / "site-facts.json"
    assert "site-facts writes it" in (
        refused(lambda: open_site_facts(path, trust), "no-site-facts").hint or ""
    )
    path = written(tmp_path)
    signature_file(path).unlink()
    assert (
        "site-facts.json.sig" in refused(lambda: open_site_facts(path, trust), "not-signed").message
    )


def test_a_signature_that_is_no_signature_is_not_trusted(tmp_path: Path, key: PublicKey) -> None:
    path = written(tmp_path)
    signature_file(path).write_bytes(b"\0" * 70)
    refused(lambda: open_site_facts(path, Trust.load(tmp_path / "site.pub")), "not-trusted")
    signature_file(path).write_bytes(b"\0" * 100_000)
    refused(lambda: open_site_facts(path, Trust.load(tmp_path / "site.pub")), "oversize")


def test_facts_nobody_could_read_are_not_signed(tmp_path: Path, key: PublicKey) -> None:
    bad = SiteFacts(
        "plant",
        DriverChoice.HOST,
        PrecompiledChoice.NEVER,
        (HostProfile("gpu-1", GPU, (SiteHost("Not A Name"),)),),
    )
    path = tmp_path / "site-facts.json"
    refused(lambda: write_site_facts(bad, path, tmp_path / "site.key"), "bad-site-facts")
    assert not path.exists()


def test_an_unknown_format_says_what_to_do() -> None:
    error = refused(
        lambda: parse({**document(), "format": "perimeter-site-facts/2"}), "bad-site-facts"
    )
    assert error.context["expected"] == "perimeter-site-facts/1"
    refused(lambda: parse({}), "bad-site-facts")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"format": "perimeter-site-facts/1", "site": "a", "site": "b"}',
        b'{"format": NaN}',
        b"[" * 100_000,
        b'{"format": "perimeter-site-facts/1"} {}',
        b'{"site": "' + b"x" * (4 * 1024 * 1024) + b'"}',
    ],
)
def test_bytes_that_are_not_one_strict_object_are_refused(data: bytes) -> None:
    refused(lambda: SiteFacts.parse(data), "bad-json")


def change(path: str, value: object) -> dict[str, Any]:
    """The document with ``value`` at a dotted path; numbers are places in lists."""
    whole = document()
    at: Any = whole
    *parts, last = path.split(".")
    for part in parts:
        at = at[int(part) if part.isdigit() else part]
    at[int(last) if last.isdigit() else last] = value
    return whole


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("site", "Plant 1", "site: 'Plant 1' is not of the shape"),
        ("site", "", "site must be a string with text"),
        ("more", 1, "unknown key 'more'"),
        ("gpu", [], "gpu must be a table"),
        ("gpu.driver", "magic", "driver: 'magic' is not a valid DriverChoice"),
        ("gpu.precompiled", None, "precompiled must be a string"),
        ("gpu.more", 1, "unknown key 'more'"),
        ("profiles", {}, "must be an array of tables"),
        ("profiles", [], "profiles names none"),
        ("profiles.0", "x", "must be an array of tables"),
        ("profiles.1.name", "gpu-0", "'gpu-0' is not of the shape"),
        ("profiles.1.name", "cpu-1", "profile cpu-1 stands there twice"),
        ("profiles.1.more", 1, "unknown key 'more'"),
        ("profiles.1.groups", "gpu", "groups must be a list"),
        ("profiles.1.groups", ["a b"], "'a b' is not of the shape"),
        ("profiles.1.os_id", "", "os_id must be a string with text"),
        ("profiles.1.os_id", "ubuntu\n", r"'ubuntu\n' is not of the shape"),
        ("profiles.1.os_version", "22.04/x", "'22.04/x' is not of the shape"),
        ("profiles.1.os_version", 22, "os_version must be a string"),
        ("profiles.1.kernel", "5.15:x", "'5.15:x' is not of the shape"),
        ("profiles.1.kernel", "5\x1b[2J", "is not of the shape"),
        ("profiles.1.kernel", "x" * 129, "is not of the shape"),
        ("profiles.1.kernel", "5.15\u0660", "is not of the shape"),
        ("profiles.1.architecture", "AMD64", "'AMD64' is not of the shape"),
        ("profiles.1.nvidia_driver", "latest", "'latest' is not of the shape"),
        ("profiles.1.secure_boot", "maybe", "'maybe' is not a valid SecureBoot"),
        ("profiles.1.runtimes", [1], "runtimes must be a list of strings"),
        ("profiles.1.gpus.0.device", "10de", "'10de' is not of the shape"),
        ("profiles.1.gpus.0.name", "caf\u00e9", "is not of the shape"),
        ("profiles.1.gpus.0.count", -1, "count must be a number from 0 up"),
        ("profiles.1.gpus.0.count", 2**60, "count must be a number from 0 up"),
        ("profiles.1.gpus.0.serial", "1", "unknown key 'serial'"),
        ("profiles.1.hosts", [], "profile gpu-1 has no host"),
        ("profiles.1.hosts.0.name", "n1", "host n1 stands there twice"),
        ("profiles.1.hosts.0.name", "-n4", "'-n4' is not of the shape"),
        ("profiles.1.hosts.0.address", "10.0.0.1", "unknown key 'address'"),
        ("profiles.1.hosts.1.discs.0.path", "var", "'var' is not of the shape"),
        ("profiles.1.hosts.1.discs.0.free_bytes", True, "free_bytes must be a number"),
        ("profiles.1.hosts.1.discs.0.more", 1, "unknown key 'more'"),
    ],
)
def test_a_field_of_another_shape_is_named(path: str, value: object, said: str) -> None:
    error = refused(lambda: parse(change(path, value)), "bad-site-facts")
    assert isinstance(error, InputError)
    assert said in str(error)
    assert "\x1b" not in str(error)


def test_a_list_that_is_missing_is_named() -> None:
    value = document()
    del value["profiles"][1]["hosts"], value["profiles"][1]["gpus"]
    error = refused(lambda: parse(value), "bad-site-facts")
    assert any("hosts must be a list" in problem for problem in error.problems)
    assert any("gpus must be a list" in problem for problem in error.problems)


def test_a_flood_of_problems_and_of_hosts_is_cut() -> None:
    value = document()
    value["profiles"][0]["hosts"] = [{"name": "n1", "discs": []}] * (MAX_HOSTS + 1)
    error = refused(lambda: parse(value), "bad-site-facts")
    assert any("more than 10000" in problem for problem in error.problems)
    value = {**document(), **{f"key-{number}": 1 for number in range(1000)}, "y" * 5000: 1}
    error = refused(lambda: parse(value), "bad-site-facts")
    assert len(error.problems) == 50
    assert max(map(len, error.problems)) <= 200
