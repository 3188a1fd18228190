"""git repositories over HTTPS: what a reference points to, and one commit fetched.

The real ``git`` does it, with nothing of the user's: no configuration, no hooks, no prompt, no
submodules, no protocol but https. Nothing is ever checked out; ``git_tree`` reads the objects.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.model.errors import HostError, InputError, IntegrityError, NetworkError
from perimeter_bundle.registry.retry import Failure, FailureKind, Retrier
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_bundle.tools.run import clean_environment, run_tool

ASK_TIMEOUT_S = 120.0
FETCH_TIMEOUT_S = 1800.0
MAX_PACK_BYTES = 1024**3
_MAX_REFS_BYTES = 4 * 1024**2  # only refs of one name are asked for

_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,200}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PASSWORD = re.compile(r"://[^/\s@]+@")
_SYSTEM_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_OPTIONS = (
    *("-c", "http.lowSpeedLimit=1024", "-c", "http.lowSpeedTime=60"),
    *("-c", "credential.helper=", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0"),
)
# what passes may be tried again; everything else is final at once
_PASSING = (
    (re.compile(r"Could not resolve|Failed to connect|Couldn't connect"), FailureKind.CONNECT),
    (re.compile(r"timed out|too slow"), FailureKind.TIMEOUT),
    (re.compile(r"returned error: 429"), FailureKind.THROTTLED),
    (re.compile(r"returned error: (408|5\d\d)"), FailureKind.SERVER),
    (re.compile(r"hung up|early EOF|RPC failed|reset by peer"), FailureKind.BROKEN),
)
_NOT_BY_COMMIT = re.compile(r"not our ref|unadvertised object|couldn't find remote ref")


def is_commit(text: str) -> bool:
    """Whether ``text`` is a whole commit id."""
    return _COMMIT.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Git:
    """Asks and fetches for one run; ``work`` is a folder of its own."""

    settings: RegistrySettings
    work: Path
    retrier: Retrier = field(repr=False)

    def resolve(self, url: str, ref: str) -> str:
        """The commit that a tag, a branch, or (empty) the default branch of ``url`` points to.

        Raises NetworkError, [no-such-ref]; InputError[bad-ref].
        """
        if ref and (not _REF.fullmatch(ref) or ".." in ref):
            raise InputError("bad-ref", f"{ref[:100]!r} is not the name of a tag or branch")
        names = (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}")
        wanted = names if ref else ("HEAD",)
        output = self._run(
            ["ls-remote", "--quiet", "--", url, *wanted], url, f"asking {url} for {ref or 'HEAD'}"
        )
        found: dict[str, str] = {}
        for line in output.decode("utf-8", "replace").splitlines():
            commit, _, name = line.partition("\t")
            if is_commit(commit):
                found.setdefault(name, commit)
        for name in wanted:  # an annotated tag counts as the commit it names
            if name in found:
                return found[name]
        if is_commit(ref):
            return ref
        raise NetworkError(
            "no-such-ref",
            f"{url} has no tag or branch {ref!r}" if ref else f"{url} has no default branch",
            hint="was it removed upstream? an alternate may still have it",
        )

    def fetch(self, url: str, commit: str, ref: str) -> Path:
        """A repository with ``commit``; by its id, or through ``ref`` where a server wants that.

        Raises NetworkError, IntegrityError[other-commit], [source-too-large], InputError.
        """
        repository = self.work / f"{commit}.git"
        kind = "sha256" if len(commit) == 64 else "sha1"
        what = f"fetching commit {commit} of {url}"
        init = ["init", "--quiet", "--bare", "--template=", f"--object-format={kind}"]
        self._run([*init, str(repository)], url, what)
        shallow = ("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules")
        command = ["-C", str(repository), *shallow, "--", url]
        try:
            self._run([*command, commit], url, what, FETCH_TIMEOUT_S)
        except NetworkError as error:
            if not ref or not any(_NOT_BY_COMMIT.search(line) for line in error.problems):
                raise
            self._by_name(repository, command, url, commit, ref, what)
        return repository

    def _by_name(
        self, repository: Path, command: Sequence[str], url: str, commit: str, ref: str, what: str
    ) -> None:
        now = self.resolve(url, ref)
        if now != commit:
            raise IntegrityError(
                "other-commit",
                f"refused {url}: {ref} is another commit, and the wanted one is gone",
                context={"expected": commit, "got": now},
            )
        last = ""
        for name in (f"refs/tags/{ref}", f"refs/heads/{ref}"):
            try:
                self._run([*command, name], url, what, FETCH_TIMEOUT_S)
            except NetworkError as error:
                last = "; ".join(error.problems)
                continue
            words = ["-C", str(repository), "cat-file", "-e", f"{commit}^{{tree}}"]
            self._run(words, url, what)
            return
        raise NetworkError("git-failed", what, problems=[last])

    def _run(
        self, words: Sequence[str], url: str, what: str, timeout_s: float = ASK_TIMEOUT_S
    ) -> bytes:
        def attempt() -> bytes:
            try:
                return run_tool(
                    ["git", *_OPTIONS, *words],
                    folder=self.work,
                    environment=self._environment(),
                    timeout_s=timeout_s,
                    what=what,
                    file_limit_bytes=MAX_PACK_BYTES if words[0] == "-C" else _MAX_REFS_BYTES,
                    check_stop=self.retrier.stop.check,
                ).stdout
            except HostError as error:
                raise _translated(error, what) from error

        return self.retrier.run(what, attempt, task=url)

    def _environment(self) -> dict[str, str]:
        proxies = {
            f"{scheme}_proxy": value
            for scheme, value in self.settings.proxies.items()
            if scheme in ("https", "all", "no")
        }
        environment = {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "GIT_ALLOW_PROTOCOL": "https",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_NO_LAZY_FETCH": "1",
            **proxies,
        }
        if self.settings.ca_file is not None:
            environment["GIT_SSL_CAINFO"] = str(self._certificates(self.settings.ca_file))
        return clean_environment(self.work, environment)

    def _certificates(self, ca_file: Path) -> Path:
        """The system's certificates and ``ca_file`` in one file: git takes one instead of both."""
        path = self.work / "certificates.pem"
        if not path.exists():
            paths = ssl.get_default_verify_paths()
            system = (paths.cafile, *_SYSTEM_CERTIFICATES)
            known = next((Path(name) for name in system if name and Path(name).is_file()), None)
            before = known.read_bytes() + b"\n" if known else b""
            path.write_bytes(before + ca_file.read_bytes())
        return path


def _translated(error: HostError, what: str) -> Exception:
    """What git's own words stand for; a password in an address is in none of them."""
    if error.code == "tool-missing":
        return HostError(
            "no-git", f"{what}: git is not installed", hint="install the package git and run again"
        )
    if error.code == "tool-timeout":
        return Failure(FailureKind.TIMEOUT, "git did not end in time")
    lines = [_PASSWORD.sub("://***@", line) for line in error.problems]
    text = "\n".join(lines)
    if error.code == "tool-output" or "signal 25" in text or "File too large" in text:
        return IntegrityError(
            "source-too-large",
            f"{what}: it is larger than any honest source",
            context={"allowed": f"{MAX_PACK_BYTES} bytes packed"},
        )
    for pattern, kind in _PASSING:
        if pattern.search(text):
            return Failure(kind, lines[-1] if lines else "git failed")
    return NetworkError("git-failed", f"{what}: git cannot do it", problems=lines)
