"""Real rpm packages and a real repository of them: rpmbuild, rpmsign, createrepo_c, gpg."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tests.support.apt_repository import AptKeys

Serve = Callable[[str, bytes], object]
_SPEC = """\
Name: {name}
Version: {version}
Release: {release}
Summary: a package of the test, with <signs> & "quotes"
License: MIT
AutoReqProv: no
{tags}
%description
of the test
%install
{install}
%files
{files}
"""


@dataclass(frozen=True)
class Rpm:
    """What a package is to be; ``tags`` are lines of its spec."""

    name: str
    version: str
    release: str = "1.el9"
    tags: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    target: str = "x86_64"


@dataclass
class RpmFolder:
    """A repository on disk, beside what made it."""

    folder: Path
    keys: AptKeys
    made: Path = field(init=False)

    def __post_init__(self) -> None:
        self.made = self.folder / "repository"

    def build(self, packages: Iterable[Rpm], *, sign: bool = True) -> None:
        """Packages, signed each, as files of the repository."""
        for target in ("x86_64", "i686"):
            specs = [self._spec(one) for one in packages if one.target == target]
            if specs:
                self._run(
                    "rpmbuild", "-bb", "--quiet", "--target", target,
                    "-D", f"_topdir {self.folder}", "-D", "debug_package %{nil}",
                    "-D", f"_rpmdir {self.made}", "-D", "_buildhost test",
                    "-D", "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
                    "-D", "__os_install_post %{nil}", *specs,
                )  # fmt: skip
        if sign:
            self.sign_packages(self.made.glob("*.rpm"))

    def build_source(self, package: Rpm) -> None:
        """Its source package, signed too."""
        self._run(
            "rpmbuild", "-bs", "--quiet", "-D", f"_topdir {self.folder}",
            "-D", f"_srcrpmdir {self.made}", self._spec(package),
        )  # fmt: skip
        self.sign_packages(self.made.glob("*.src.rpm"))

    def sign_packages(self, paths: Iterable[Path]) -> None:
        """With the key, as a distribution does it."""
        self._run(
            "rpmsign", "--addsign", "-D", "__gpg /usr/bin/gpg", "-D", "_gpg_name test archive",
            "-D", f"_gpg_path {self.keys.home}", *map(str, paths),
        )  # fmt: skip

    def index(self, *options: str, revision: int = 1_700_000_000) -> None:
        """repodata/, signed."""
        self._run("createrepo_c", "--quiet", "--revision", str(revision), *options, str(self.made))
        self.sign_index()

    def sign_index(self) -> None:
        """repomd.xml.asc."""
        repomd = self.made / "repodata" / "repomd.xml"
        signature = self.keys.gpg("--armor", "--detach-sign", "-o", "-", str(repomd))
        repomd.with_name("repomd.xml.asc").write_bytes(signature)

    def replace_primary(self, change: Callable[[bytes], bytes], ending: str) -> None:
        """Puts ``change`` of the primary index in its place, packed as ``ending`` says, signed."""
        repomd = self.made / "repodata" / "repomd.xml"
        (old,) = repomd.parent.glob("*-primary.xml.gz")
        data = change(gzip.decompress(old.read_bytes()))
        if ending == "zst":
            data = subprocess.run(
                ["zstd", "-qc"], input=data, capture_output=True, check=True
            ).stdout
        old.unlink()
        (repomd.parent / f"primary.xml.{ending}").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        entry = (
            f'<data type="primary"><checksum type="sha256">{digest}</checksum>'
            f'<location href="repodata/primary.xml.{ending}"/><size>{len(data)}</size></data>'
        )
        text = repomd.read_text()
        start = text.index('<data type="primary">')
        end = text.index("</data>", start) + len("</data>")
        repomd.write_text(text[:start] + entry + text[end:])
        self.sign_index()

    def serve(self, serve: Serve, base: str = "/rhel") -> None:
        """Every file of the repository below ``base``."""
        for path in self.made.rglob("*"):
            if path.is_file():
                # the server looks up addresses as they are asked for
                name = quote(path.relative_to(self.made).as_posix(), safe="/+~")
                serve(f"{base}/{name}", path.read_bytes())

    def _spec(self, one: Rpm) -> str:
        path = self.folder / f"{one.name}-{one.version}-{one.release}-{one.target}.spec"
        install = [f"mkdir -p '%{{buildroot}}{Path(each).parent}'" for each in one.files]
        install += [f"echo {one.name} {one.version} > '%{{buildroot}}{each}'" for each in one.files]
        path.write_text(
            _SPEC.format(
                name=one.name, version=one.version, release=one.release,
                tags="\n".join(one.tags), install="\n".join(install),
                files="\n".join(f'"{each}"' for each in one.files),
            )
        )  # fmt: skip
        return str(path)

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command[0]}: {done.stderr}\n{done.stdout}"
