"""rpm packages for a driver that compiles: from a real signed repository to a real dnf at the site.

rpmbuild, rpmsign, createrepo_c and gpg make the repository; lock and build run as a user types
them; dnf installs out of what the bundle carries, with gpgcheck on.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.test_build_bundle_cli import Ended
from tests.integration.test_lock_site_facts import COMPONENT, Site, locked, site  # noqa: F401
from tests.support.apt_repository import AptKeys
from tests.support.lying_server import Lie
from tests.support.rpm_repository import Rpm, RpmFolder
from tests.unit.collect.test_site_choice import RHEL

from perimeter_bundle.catalog.os_repositories import load_os_repositories
from perimeter_bundle.format.layout import blob_path, site_packages_path, site_repository_path
from perimeter_bundle.format.signature import sign_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.model.errors import InputError

K = "5.14.0-570.12.1.el9_6.x86_64"
KV, KR = "5.14.0", "570.12.1.el9_6"
NEWER = "570.99.1.el9_6"
SLES = replace(RHEL, os_id="sles", os_version="15.6", kernel="5.14.21-150500.55.19-default")
PACKAGES_OF = """\
      rhel:
        install: [elfutils-libelf-devel, "kernel-headers-{kernel}", "kernel-devel-{kernel}"]
        download_if_there: ["kernel-modules-{kernel}", "never-{kernel}"]
      sles:
        install: ["kernel-{kernel_flavour}-devel = {kernel_version}"]
"""
REPOSITORY = """\
rpm:
  - system: rhel9.6
    url: {url}/rhel
    keyring: rpm.asc
"""
RPMS = (
    Rpm("elfutils-libelf", "0.192", "5.el9"),
    Rpm("elfutils-libelf", "0.192", "5.el9", target="i686"),
    Rpm("elfutils-libelf-devel", "0.192", "5.el9", ("Requires: elfutils-libelf = 0.192-5.el9",)),
    Rpm("kernel-headers", KV, KR),
    Rpm("kernel-headers", KV, NEWER),
    Rpm(
        "kernel-devel", KV, KR,
        ("Requires: gcc >= 11", "Requires: /usr/bin/perl", "Requires(pre): findutils",
         "Requires: (openssl-devel if openssl-libs)", "Requires: (Make or gmake)",
         "Requires: (clang < 5 or llvm)", f"Provides: kernel-devel-uname-r = {KV}-{KR}.x86_64"),
        (f"/usr/src/kernels/{K}/Makefile",),
    ),
    Rpm("kernel-devel", KV, NEWER, ("Requires: nothing-has-this",)),
    Rpm("kernel-modules", KV, KR, ("Requires: nothing-has-this",)),
    Rpm("gcc", "11.5.0~rc1", "5.el9", ("Epoch: 1", "Requires: libstdc++(x86-64) >= 1:11")),
    Rpm("gcc", "10", "1.el9", ("Epoch: 1",)),
    Rpm("libstdc++", "11.5.0^20240719", "5.el9", ("Epoch: 1", "Conflicts: old < 2"),
        ("/usr/lib64/libstdc++.so.6",)),
    Rpm("perl-interpreter", "5.32", files=("/usr/bin/perl",)),
    Rpm("findutils", "4.8"),
    Rpm("Make", "4.3"),
    Rpm("llvm", "19"),
    Rpm("openssl-libs", "3"),
    Rpm("openssl-devel", "3", tags=("Requires: openssl-libs = 3-1.el9",)),
    Rpm("modular", "9", "1.module+el9.6"),
    Rpm("unrelated", "1"),
    Rpm("kernel-default-devel", "5.14.21", "150500.55.19.1",
        ("Provides: kernel-default-devel = 5.14.21-150500.55.19",)),
    Rpm("kernel-default-devel", "5.14.21", "150500.55.28.1"),
)  # fmt: skip
WANTED = {
    "Make-4.3-1.el9.x86_64.rpm",
    "elfutils-libelf-0.192-5.el9.x86_64.rpm",
    "elfutils-libelf-devel-0.192-5.el9.x86_64.rpm",
    "findutils-4.8-1.el9.x86_64.rpm",
    "gcc-11.5.0~rc1-5.el9.x86_64.rpm",
    f"kernel-devel-{K}.rpm",
    f"kernel-headers-{K}.rpm",
    f"kernel-modules-{K}.rpm",
    "libstdc++-11.5.0^20240719-5.el9.x86_64.rpm",
    "llvm-19-1.el9.x86_64.rpm",
    "openssl-devel-3-1.el9.x86_64.rpm",
    "openssl-libs-3-1.el9.x86_64.rpm",
    "perl-interpreter-5.32-1.el9.x86_64.rpm",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> RpmFolder:
    """The packages, made once."""
    folder = tmp_path_factory.mktemp("rpms")
    made = RpmFolder(folder, AptKeys(folder / "keys", "rsa2048"))
    made.build(RPMS)
    made.index()
    return made


@pytest.fixture
def rpms(built: RpmFolder, tmp_path: Path) -> RpmFolder:
    """A copy that a test may change."""
    shutil.copytree(built.made, tmp_path / "rpm" / "repository")
    return RpmFolder(tmp_path / "rpm", built.keys)


@pytest.fixture(autouse=True)
def rhel(site: Site, rpms: RpmFolder) -> Iterator[None]:  # noqa: F811
    """Hosts with RHEL, and an image for it that compiles."""
    path = site.mini.catalog_root / "gpu" / "component.yaml"
    component = COMPONENT.format(url=site.mini.server.url, host=site.mini.host)
    path.write_text(component + PACKAGES_OF)
    site.serve_tags("595.91.07-rhel9.6", "595.91.07-sles15.6")
    site.write(RHEL)
    (site.folder / "rpm.asc").write_bytes(rpms.keys.gpg("--armor", "--export"))
    (site.folder / "os.yaml").write_text(REPOSITORY.format(url=site.mini.server.url))
    yield


def lock(site: Site) -> Ended:  # noqa: F811
    return site.lock("--os-repositories", "os.yaml", "--json")


def refused(site: Site, code: str) -> str:  # noqa: F811
    """All that the refusal says."""
    ended = lock(site)
    assert ended.status, ended.out
    error = json.loads(ended.out)["error"]
    assert error["code"] == code, error
    assert not (site.folder / "images.lock").exists()
    return json.dumps(error, ensure_ascii=False)


def settings(site: Site, more: str) -> None:  # noqa: F811
    path = site.folder / "os.yaml"
    path.write_text(path.read_text() + more)


def dnf(site_folder: Path, root: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """A real dnf that knows the carried repository alone and trusts nothing but its key."""
    key = site_folder / "RPM-GPG-KEY-1"
    (root / "log").mkdir(parents=True)
    return subprocess.run(
        [
            "dnf", "--installroot", str(root), "--releasever", "9", "--disablerepo=*",
            "--setopt=reposdir=/dev/null", "--setopt=cachedir=" + str(root / "cache"),
            "--setopt=logdir=" + str(root / "log"), "--setopt=persistdir=" + str(root / "state"),
            "--setopt=tsflags=noscripts", "--setopt=install_weak_deps=False",
            "--setopt=pluginpath=/dev/null", "--forcearch=x86_64",
            f"--repofrompath=carried,file://{site_folder}",
            "--setopt=carried.gpgcheck=1", f"--setopt=carried.gpgkey=file://{key}",
            "-y", "install", *names,
        ],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_dnf_installs_with_gpgcheck_from_what_the_bundle_carries(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    rpms.serve(site.mini.server.serve)
    ended = lock(site)
    assert ended.status == 0, ended.err + ended.out
    made = locked(site)
    assert made.site is not None
    (component,) = made.site.components
    assert component.values[-1] == "    configMapName: perimeter-driver-repositories"
    result = site.mini.build(made, site.folder / "bundle")
    sign_bundle(result.root, site.folder / "site.key")
    opened = open_bundle(result.root, Trust.load(site.folder / "site.pub"))
    assert opened.lock.site == made.site
    listed = json.loads(opened.read(site_packages_path("gpu")))["packages"]
    assert {one["file"] for one in listed} == WANTED
    assert {one["architecture"] for one in listed} == {"x86_64"}

    served = site.folder / "served"
    shutil.copytree(result.root / site_repository_path("gpu", "rhel9.6"), served)
    assert (served / "RPM-GPG-KEY-1").read_bytes() == (site.folder / "rpm.asc").read_bytes()
    for one in listed:
        digest = result.manifest.find(one["reference"]).payload
        shutil.copy(result.root / blob_path(digest), served / one["file"])
    root = site.folder / "root"
    done = dnf(served, root, f"kernel-headers-{K}", f"kernel-devel-{K}", "elfutils-libelf-devel")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (root / f"usr/src/kernels/{K}/Makefile").is_file()
    asked = subprocess.run(
        ["rpm", "--root", str(root), "-qa", "--qf", "%{name}\n"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {"gcc", "libstdc++", "perl-interpreter", "llvm", "Make"} <= set(asked.stdout.split())
    stranger = AptKeys(site.folder / "stranger").gpg("--armor", "--export")
    (served / "RPM-GPG-KEY-1").write_bytes(stranger)
    done = dnf(served, site.folder / "other", "findutils")
    assert done.returncode != 0
    assert "GPG" in done.stdout + done.stderr


def test_the_same_lock_gives_the_same_repository_again(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    rpms.serve(site.mini.server.serve)
    assert lock(site).status == 0
    first = (site.folder / "images.lock").read_bytes()
    assert lock(site).status == 0
    assert (site.folder / "images.lock").read_bytes() == first
    one, other = (site.mini.build(first, site.folder / name) for name in ("one", "other"))
    assert one.identity == other.identity


def test_a_kernel_of_suse_is_found_by_what_its_packages_provide(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    rpms.serve(site.mini.server.serve)
    site.write(SLES)
    text = (site.folder / "os.yaml").read_text()
    (site.folder / "os.yaml").write_text(text.replace("rhel9.6", "sles15.6"))
    ended = lock(site)
    assert ended.status == 0, ended.out
    part = locked(site).site
    assert part is not None
    assert [one.version for one in part.components[0].packages] == ["5.14.21-150500.55.19.1"]


def test_a_kernel_that_is_nowhere_is_refused_with_those_there_are(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    rpms.serve(site.mini.server.serve)
    site.write(replace(RHEL, kernel="5.14.0-503.1.1.el9_6.x86_64"))
    said = refused(site, "no-driver-packages")
    assert "kernel 5.14.0-503.1.1.el9_6.x86_64" in said
    assert "kernel-devel-5.14.0-503.1.1.el9_6.x86_64, looked for in" in said
    assert f"there are kernel-devel-{KV}-{NEWER}.x86_64, " in said or f"kernel-devel-{K}" in said
    site.write(replace(RHEL, kernel=f"{KV}-{NEWER}.x86_64"))
    said = refused(site, "no-driver-packages")
    assert f"nothing-has-this, which kernel-devel-{KV}-{NEWER}.x86_64 needs" in said


def test_metadata_that_its_distribution_did_not_sign_is_refused(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    rpms.serve(site.mini.server.serve)
    other = AptKeys(site.folder / "other")
    (site.folder / "rpm.asc").write_bytes(other.gpg("--armor", "--export"))
    assert "repomd.xml is not signed by a key in rpm.asc" in refused(site, "bad-signature")
    site.mini.server.lie("/rhel/repodata/repomd.xml.asc", Lie(status=404))
    refused(site, "not-found")


def test_every_link_of_the_chain_is_checked(site: Site, rpms: RpmFolder) -> None:  # noqa: F811
    rpms.serve(site.mini.server.serve)
    repomd = "/rhel/repodata/repomd.xml"
    good = site.mini.server.files[repomd].data
    site.mini.server.serve(repomd, good.replace(b"<revision>17", b"<revision>18"))
    refused(site, "bad-signature")
    site.mini.server.serve(repomd, good)
    (primary,) = (p for p in site.mini.server.files if p.endswith("primary.xml.gz"))
    data = site.mini.server.files[primary].data
    site.mini.server.serve(primary, data[:-1] + b"\xff")
    assert "it is not what repomd.xml promises" in refused(site, "digest-mismatch")
    site.mini.server.serve(primary, data)
    assert lock(site).status == 0
    package = "/rhel/findutils-4.8-1.el9.x86_64.rpm"
    rpm = site.mini.server.files[package].data
    site.mini.server.serve(package, rpm[:-1] + bytes([rpm[-1] ^ 1]))
    ended = site.run("build", "mini", "--lock", "images.lock", "--out", "bundle", "--json")
    assert ended.status == 4, ended.out
    assert "findutils" in ended.out


@pytest.mark.parametrize("kind", ["xz", "zst"])
def test_other_packers_of_the_index_are_read(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
    kind: str,
) -> None:
    if kind == "zst":
        rpms.replace_primary(lambda data: data, "zst")
    else:
        rpms.index("--general-compress-type=xz")
    rpms.serve(site.mini.server.serve)
    assert any(path.endswith(f"primary.xml.{kind}") for path in site.mini.server.files)
    ended = lock(site)
    assert ended.status == 0, ended.out
    part = locked(site).site
    assert part is not None
    assert len(part.components[0].packages) == len(WANTED)


def test_a_mirror_that_is_gone_or_behind_is_passed_over_for_an_alternate(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    url = site.mini.server.url
    settings(site, f"    alternates: [{url}/behind, {url}/good]\n    at_least: 1700000000\n")
    rpms.serve(site.mini.server.serve, "/good")
    rpms.index(revision=1_600_000_000)
    rpms.serve(site.mini.server.serve, "/behind")
    ended = lock(site)
    assert ended.status == 0, ended.out
    part = locked(site)
    assert all("/good/" in file.url for file in part.files if file.name.startswith("rpm-"))
    assert f"{url}/behind: " in ended.err
    (site.folder / "images.lock").unlink()
    settings(site, "")
    text = (site.folder / "os.yaml").read_text().replace(f", {url}/good", "")
    (site.folder / "os.yaml").write_text(text)
    said = refused(site, "metadata-too-old")
    assert f"{url}/rhel: " in said


def signed_packages(site: Site, rpms: RpmFolder) -> None:  # noqa: F811
    """As RHEL does it: no repomd.xml.asc, each package signed."""
    (rpms.made / "repodata" / "repomd.xml.asc").unlink(missing_ok=True)
    rpms.serve(site.mini.server.serve)
    settings(site, "    signed: packages\n")


def test_where_packages_alone_are_signed_each_is_checked(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    signed_packages(site, rpms)
    ended = lock(site)
    assert ended.status == 0, ended.out
    got = {seen.path.rpartition("/")[2] for seen in site.mini.server.seen if "rpm" in seen.path}
    assert "unrelated-1-1.el9.x86_64.rpm" not in got


def test_a_package_that_is_signed_by_nobody_or_a_stranger_is_refused(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    name = "findutils-4.8-1.el9.x86_64.rpm"
    subprocess.run(["rpmsign", "--delsign", str(rpms.made / name)], check=True, capture_output=True)
    rpms.index()
    signed_packages(site, rpms)
    assert f"{name} is not signed" in refused(site, "bad-signature")
    stranger = RpmFolder(rpms.folder, AptKeys(site.folder / "stranger"))
    stranger.sign_packages([rpms.made / name])
    rpms.index()
    rpms.serve(site.mini.server.serve)
    assert f"{name} is not signed by a key in rpm.asc" in refused(site, "bad-signature")


def test_a_payload_other_than_the_signed_header_promises_is_refused(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    """The index is a stranger's: it has the digest of what it wants to slip in."""
    path = rpms.made / "findutils-4.8-1.el9.x86_64.rpm"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    rpms.index()
    signed_packages(site, rpms)
    assert "its payload is not the one" in refused(site, "bad-rpm")


def test_a_signed_package_under_another_name_is_refused(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    # newer by its word alone: what was signed is gcc 10
    old, new = b'epoch="1" ver="10" rel="1.el9"', b'epoch="1" ver="99" rel="1.el9"'
    rpms.replace_primary(lambda data: data.replace(old, new), "zst")
    signed_packages(site, rpms)
    assert "the index calls it gcc-99-1.el9.x86_64" in refused(site, "bad-rpm")


def test_a_signed_source_package_is_no_package(
    site: Site,  # noqa: F811
    rpms: RpmFolder,
) -> None:
    """Its header has name and processor of what is built from it."""
    rpms.build_source(Rpm("findutils", "99"))
    rpms.index()
    rpms.replace_primary(lambda data: data.replace(b"<arch>src<", b"<arch>x86_64<"), "zst")
    signed_packages(site, rpms)
    assert "it is a source package" in refused(site, "bad-rpm")


def test_a_keyring_that_rpm_would_not_take_is_refused(site: Site, rpms: RpmFolder) -> None:  # noqa: F811
    rpms.serve(site.mini.server.serve)
    (site.folder / "rpm.asc").write_bytes(rpms.keys.gpg("--export"))
    assert "is not armoured" in refused(site, "bad-keyring")
    (site.folder / "rpm.asc").write_bytes(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nx")
    assert "has no public key" in refused(site, "bad-keyring")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rpm:\n", "rpms:\n", "rpms: unknown key"),
        ("system: rhel9.6", "system: ubuntu22.04", "system"),
        ("https:", "http:", "must be a full address beginning with https://"),
        ("keyring: rpm.asc", "keyring: no.asc", "there is no file no.asc beside it"),
        ("keyring: rpm.asc", "keyring: rpm.asc\n    signed: nothing", "signed"),
        ("keyring: rpm.asc", "keyring: rpm.asc\n    at_least: -1", "at_least"),
        (
            "keyring: rpm.asc",
            "keyring: rpm.asc\n    signed: packages\n    at_least: 1",
            "means nothing where repomd.xml is not signed",
        ),
        ("keyring: rpm.asc", "keyring: rpm.asc\n    alternates: [ftp://x]", "alternates"),
    ],
)
def test_rpm_repositories_that_cannot_be_are_refused_with_their_line(
    site: Site,  # noqa: F811
    old: str,
    new: str,
    said: str,
) -> None:
    path = site.folder / "os.yaml"
    assert len(load_os_repositories(path)) == 1
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError) as caught:
        load_os_repositories(path)
    assert said in str(caught.value)
