"""Keys, signatures and whom a site trusts; openssl is asked for its opinion."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.support.bundles import make_key

from perimeter_bundle.format.layout import SUMS, signature_path, sigstore_path
from perimeter_bundle.format.signature import (
    PublicKey,
    generate_key,
    key_id,
    load_private_key,
    public_key_path,
    sign_bundle,
)
from perimeter_bundle.format.sums import write_sums
from perimeter_bundle.format.trust import Role, Trust
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError, IntegrityError, PerimeterError, TrustError

PEM = serialization.Encoding.PEM
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=30, check=False)


def refused(do: Callable[[], object], code: str, error: type[PerimeterError] = TrustError) -> str:
    with pytest.raises(error) as caught:
        do()
    assert type(caught.value) is error
    assert caught.value.code == code
    return str(caught.value)


def test_a_key_pair_is_what_openssl_reads(tmp_path: Path) -> None:
    key = generate_key(tmp_path / "sub/site.key")
    public = tmp_path / "sub/site.pub"
    assert (tmp_path / "sub/site.key").stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    assert PublicKey.parse(public.read_bytes(), "site.pub") == key
    result = openssl("pkey", "-pubin", "-in", public, "-outform", "DER")
    assert Digest.of_bytes(result.stdout).hex == key.key_id == key_id(key)
    assert openssl("pkey", "-pubin", "-in", public).stdout == public.read_bytes()
    assert b"prime256v1" in openssl("pkey", "-in", tmp_path / "sub/site.key", "-text").stdout


def test_a_key_made_by_openssl_is_read(tmp_path: Path) -> None:
    curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    assert openssl("genpkey", *curve, "-out", tmp_path / "k.key").returncode == 0
    openssl("pkey", "-in", tmp_path / "k.key", "-pubout", "-out", tmp_path / "k.pub")
    load_private_key(tmp_path / "k.key")
    PublicKey.parse((tmp_path / "k.pub").read_bytes(), "k.pub")


@pytest.mark.parametrize("there", ["site.key", "site.pub"])
def test_no_key_is_ever_overwritten(there: str, tmp_path: Path) -> None:
    (tmp_path / there).symlink_to("nowhere")
    message = refused(lambda: generate_key(tmp_path / "site.key"), "key-exists", InputError)
    assert there in message
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_a_key_is_not_made_where_it_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file/site.key"
    assert "cannot write" in refused(lambda: generate_key(target), "cannot-write", InputError)
    refused(lambda: generate_key(tmp_path / "x.pub"), "bad-key-name", InputError)
    refused(lambda: generate_key(tmp_path / "x.key", ""), "empty-password", InputError)


def test_a_password_protects_the_key(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    generate_key(path, "correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    load_private_key(path, "correct horse")
    assert "this is not the password of site.key" in refused(
        lambda: load_private_key(path, "wrong"), "wrong-password"
    )
    assert "protected by a password" in refused(lambda: load_private_key(path), "password-needed")


def test_a_password_that_is_not_needed_is_not_asked_about(tmp_path: Path) -> None:
    load_private_key(make_key(tmp_path), "superfluous")


def test_refuses_private_keys_that_cannot_sign(tmp_path: Path) -> None:
    path = tmp_path / "x.key"
    refused(lambda: load_private_key(path), "unreadable-key", InputError)
    path.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert "cannot be read" in refused(lambda: load_private_key(path), "bad-key")
    other = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(
        other.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    assert "not an ECDSA P-256 key" in refused(lambda: load_private_key(path), "bad-key")


def sealed(folder: Path) -> Path:
    (folder / "a").mkdir(parents=True)
    (folder / "a/b").write_bytes(b"x")
    write_sums(folder)
    return folder


def test_openssl_accepts_the_signature_and_nothing_else(tmp_path: Path) -> None:
    key, root = make_key(tmp_path), sealed(tmp_path / "bundle")
    name = sign_bundle(root, key)
    arguments = ("-verify", public_key_path(key), "-signature", root / signature_path(name))
    good = openssl("dgst", "-sha256", *arguments, root / SUMS)
    assert good.stdout == b"Verified OK\n"
    (root / SUMS).write_bytes((root / SUMS).read_bytes().replace(b"a/b", b"a/c"))
    assert openssl("dgst", "-sha256", *arguments, root / SUMS).returncode == 1


def test_the_sigstore_bundle_holds_the_same_signature(tmp_path: Path) -> None:
    root = sealed(tmp_path / "bundle")
    name = sign_bundle(root, make_key(tmp_path))
    document = json.loads((root / sigstore_path(name)).read_bytes())
    data = (root / SUMS).read_bytes()
    raw = base64.b64encode((root / signature_path(name)).read_bytes()).decode()
    digest = base64.b64encode(bytes.fromhex(Digest.of_bytes(data).hex)).decode()
    assert document == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": name}},
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": digest},
            "signature": raw,
        },
    }


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda root: (root / "a/b").write_bytes(b"y"), "digest-mismatch"),
        (lambda root: (root / "a/b").unlink(), "missing-file"),
        (lambda root: (root / "c").write_bytes(b""), "unlisted-file"),
        (lambda root: (root / SUMS).unlink(), "unreadable"),
        (lambda root: (root / SUMS).write_bytes(b"x\n"), "bad-sums"),
    ],
)
def test_only_what_holds_is_signed(
    damage: Callable[[Path], object], code: str, tmp_path: Path
) -> None:
    root = sealed(tmp_path / "bundle")
    damage(root)
    refused(lambda: sign_bundle(root, make_key(tmp_path)), code, IntegrityError)
    assert not (root / "signatures").exists()


def public_pem(curve: ec.EllipticCurve) -> bytes:
    return ec.generate_private_key(curve).public_key().public_bytes(PEM, SPKI)


def compressed_pem(folder: Path) -> bytes:
    public = public_key_path(make_key(folder, "compressed"))
    result = openssl("ec", "-pubin", "-in", public, "-conv_form", "compressed")
    assert b"PUBLIC KEY" in result.stdout
    return result.stdout


def test_refuses_public_keys_of_another_kind(tmp_path: Path) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048).public_key().public_bytes(PEM, SPKI)
    good = public_pem(ec.SECP256R1())
    for pem, reason in (
        (public_pem(ec.SECP384R1()), "not an ECDSA P-256 key"),
        (public_pem(ec.SECP256K1()), "not an ECDSA P-256 key"),
        (rsa_key, "not an ECDSA P-256 key"),
        (compressed_pem(tmp_path), "not in the usual form"),
        (good + good, "not one PEM public key"),
        (b"", "not one PEM public key"),
        (good + b"x" * 20_000, "not one PEM public key"),
        (good.replace(b"\nM", b"\nN", 1), "cannot be read"),
    ):
        message = refused(lambda pem=pem: PublicKey.parse(pem, "x.pub"), "bad-key")  # type: ignore[misc]
        assert "x.pub" in message
        assert reason in message


def test_a_private_key_in_the_trust_folder_is_an_alarm(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    key.rename(tmp_path / "builder.pub")
    assert "a private key where a public one belongs" in refused(
        lambda: Trust.load(tmp_path), "private-key"
    )


def trust_folder(folder: Path, *names: str, toml: str = "") -> Path:
    folder.mkdir(parents=True)
    for name in names:
        make_key(folder.parent / "private", name)
        (folder / f"{name}.pub").write_bytes(
            (folder.parent / "private" / f"{name}.pub").read_bytes()
        )
    if toml:
        (folder / "trust.toml").write_text(toml)
    return folder


def test_without_trust_toml_every_key_is_a_builder(tmp_path: Path) -> None:
    trust = Trust.load(trust_folder(tmp_path / "trust", "a", "b"))
    assert [key.name for key in trust.keys] == ["a.pub", "b.pub"]
    assert trust.threshold == {Role.BUILDER: 1, Role.REVIEWER: 0}
    assert len(trust.of_role(Role.BUILDER)) == 2
    assert trust.of_role(Role.REVIEWER) == ()
    assert trust.minimum_release == 0
    assert trust.find(trust.keys[1].key.key_id) == trust.keys[1]
    assert trust.find("0" * 64) is None


def test_a_single_key_is_trust_enough(tmp_path: Path) -> None:
    folder = trust_folder(tmp_path / "trust", "a")
    assert Trust.load(folder / "a.pub") == Trust.load(folder)


def test_a_linked_key_of_the_site_is_followed(tmp_path: Path) -> None:
    folder = trust_folder(tmp_path / "trust", "a")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "a.pub").symlink_to(folder / "a.pub")
    assert Trust.load(linked) == Trust.load(folder)
    (linked / "gone.pub").symlink_to(folder / "gone.pub")
    assert "cannot read" in refused(lambda: Trust.load(linked), "bad-trust")


def test_an_empty_trust_folder_verifies_nothing(tmp_path: Path) -> None:
    refused(lambda: Trust.load(tmp_path), "empty-trust")
    (tmp_path / "trust.toml").write_text('format = "perimeter-trust/1"')
    (tmp_path / "README").write_text("")
    refused(lambda: Trust.load(tmp_path), "empty-trust")
    refused(lambda: Trust.load(tmp_path / "none"), "no-trust")


def test_one_key_twice_is_refused(tmp_path: Path) -> None:
    folder = trust_folder(tmp_path / "trust", "a")
    (folder / "b.pub").write_bytes((folder / "a.pub").read_bytes())
    assert "a.pub and b.pub are the same key" in refused(lambda: Trust.load(folder), "bad-trust")


TOML = """
format = "perimeter-trust/1"
minimum_release = 7
[threshold]
builder = 1
reviewer = 1
[[key]]
file = "a.pub"
roles = ["builder"]
[[key]]
file = "b.pub"
roles = ["reviewer", "builder"]
"""


def test_trust_toml_gives_roles_thresholds_and_the_lowest_release(tmp_path: Path) -> None:
    trust = Trust.load(trust_folder(tmp_path / "trust", "a", "b", toml=TOML))
    assert trust.threshold == {Role.BUILDER: 1, Role.REVIEWER: 1}
    assert [key.name for key in trust.of_role(Role.REVIEWER)] == ["b.pub"]
    assert trust.minimum_release == 7
    assert trust.not_before(9).minimum_release == 9
    assert trust.not_before(3).minimum_release == 7


def test_trust_toml_may_be_short(tmp_path: Path) -> None:
    toml = 'format = "perimeter-trust/1"\n[[key]]\nfile = "a.pub"\nroles = ["builder"]\n'
    trust = Trust.load(trust_folder(tmp_path / "trust", "a", toml=toml))
    assert trust == Trust.load(tmp_path / "trust/a.pub")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("perimeter-trust/1", "perimeter-trust/2", "format is 'perimeter-trust/2'"),
        ("minimum_release = 7", "minimum_release = -7", "minimum_release must be a number"),
        ("minimum_release = 7", "x = 7", "unknown key 'x'"),
        ("builder = 1", "builder = 0", "the threshold of builders is below 1"),
        ("reviewer = 1", "reviewer = 2", "2 reviewers must sign, but only 1 keys are theirs"),
        ("reviewer = 1", "auditor = 2", "[threshold]: unknown key 'auditor'"),
        ("reviewer = 1", 'reviewer = "1"', "reviewer must be a number"),
        ('roles = ["builder"]', 'roles = ["root"]', "'root' is not a valid Role"),
        ('roles = ["builder"]', "roles = []", "roles names none"),
        ('roles = ["builder"]', "", "roles must be a list of strings"),
        ('file = "b.pub"', 'file = "a.pub"', "a.pub stands there twice"),
        ('file = "b.pub"', 'file = "c.pub"', "c.pub: there is no such file"),
        ('file = "b.pub"', 'file = "c.pub"', "b.pub is in the folder, but no [[key]]"),
        ('file = "b.pub"', "", "file must be a string"),
        ("[threshold]", "threshold = 3\n[x]", "threshold must be a table"),
        ("[threshold]", "[threshold", "is not TOML"),
        ("[[key]]", "[key]", "is not TOML"),
    ],
)
def test_refuses_a_trust_toml_with(old: str, new: str, problem: str, tmp_path: Path) -> None:
    folder = trust_folder(tmp_path / "trust", "a", "b", toml=TOML.replace(old, new, 1))
    assert problem in refused(lambda: Trust.load(folder), "bad-trust")


def test_an_oversize_trust_toml_is_refused(tmp_path: Path) -> None:
    folder = trust_folder(tmp_path / "trust", "a", toml="#" * 300_000)
    assert "larger than any honest one" in refused(lambda: Trust.load(folder), "bad-trust")


def test_keys_print_without_their_private_half(tmp_path: Path) -> None:
    trust = Trust.load(trust_folder(tmp_path / "trust", "a"))
    assert "PRIVATE" not in repr(trust)
    assert os.listdir(tmp_path / "trust") == ["a.pub"]  # noqa: PTH208
