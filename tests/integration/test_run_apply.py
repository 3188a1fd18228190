"""Apply with the real ansible-runner and a real registry; the playbooks only touch files here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.support.bundles import SmallBundle, make_bundle
from tests.support.distribution import Distribution
from tests.support.sites import make_site

from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import BundleManifest
from perimeter_bundle.format.verify import VerifiedBundle, open_bundle
from perimeter_bundle.model.errors import ClusterError, HostError, InputError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_installer.load.load import fill_registries
from perimeter_installer.run.apply import ApplyOptions, ApplyReport, Outcome, apply
from perimeter_installer.run.apply import plan_apply as plan
from perimeter_installer.run.secrets import open_secrets
from perimeter_installer.run.status import status
from perimeter_installer.site.model import Site

PLAYBOOK = """\
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Step NAME is done
      ansible.builtin.copy:
        content: "{{ perimeter_release }} {{ perimeter_minio_root_password | hash('sha256') }}"
        dest: "{{ perimeter_state_dir }}/../NAME"
        mode: "0600"
    - name: Step NAME ran
      ansible.builtin.debug:
        msg: "{{ lookup('pipe', 'echo x >>' ~ perimeter_state_dir ~ '/../NAME.count') }}"
      when: not ansible_check_mode
"""
GATE = """\
    - name: The gate is open
      ansible.builtin.wait_for: {path: "{{ perimeter_state_dir }}/../gate", timeout: 60, sleep: 1}
      when: (perimeter_state_dir ~ '/../gate') is not exists
"""
FAILING = """\
    - name: The last word
      ansible.builtin.fail: {msg: "{{ lookup('file', perimeter_state_dir ~ '/../trouble') }}"}
      when: (perimeter_state_dir ~ '/../trouble') is exists
"""


@dataclass
class Setting:
    """A loaded registry, a site that uses it, and a bundle of two steps."""

    site: Site
    made: SmallBundle
    bundle: VerifiedBundle
    registry: Distribution

    @property
    def folder(self) -> Path:
        return self.site.folder

    def apply(self, **options: object) -> ApplyReport:
        self.events: list[Event] = []
        return apply(
            self.bundle,
            self.site,
            options=replace(ApplyOptions(), **options),  # type: ignore[arg-type]
            on_event=self.events.append,
        )

    def times(self, step: str) -> int:
        path = self.folder / f"{step}.count"
        return len(path.read_text().splitlines()) if path.exists() else 0


def phases(manifest: BundleManifest) -> BundleManifest:
    """The components in phases that need no cluster."""
    known = {"kubernetes": "containerd", "local-path-provisioner": "tools", "minio": "tools"}
    components = tuple(replace(one, phase=known[one.name]) for one in manifest.components)
    return replace(manifest, components=components)


def playbooks() -> dict[str, bytes]:
    texts = {name: PLAYBOOK.replace("NAME", name) for name in ("node", "containerd")}
    texts["containerd"] += GATE + FAILING
    return {f"{layout.PLAYBOOKS}/{name}.yml": text.encode() for name, text in texts.items()}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Distribution]:
    with Distribution(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def setting(tmp_path: Path, registry: Distribution) -> Setting:
    made = make_bundle(tmp_path / "bundle", edit_manifest=phases, extra_files=playbooks())
    site = make_site(
        tmp_path / "site", registry_url=registry.url, registry_ca=registry.ca.certificate
    )
    bundle = open_bundle(made.root, made.trust)
    fill_registries(bundle, site, open_secrets(site))
    (site.folder / "gate").touch()
    return Setting(site, made, bundle, registry)


def test_runs_the_steps_in_order_and_a_second_apply_changes_nothing(setting: Setting) -> None:
    first = setting.apply()
    assert [step.step.name for step in first.steps] == ["node", "containerd"]
    assert first.changed == 2
    assert (setting.folder / "containerd").read_text().startswith("2026.11 ")

    second = setting.apply()
    assert second.changed == 0
    assert not second.resumed
    assert setting.times("node") == 2
    assert setting.folder.joinpath(".perimeter").stat().st_mode & 0o777 == 0o700


def test_check_changes_nothing_and_writes_no_journal(setting: Setting) -> None:
    report = setting.apply(check=True)
    assert report.changed == 2
    assert not (setting.folder / "node").exists()
    assert not (setting.folder / ".perimeter" / "journal.jsonl").exists()
    assert not (setting.folder / ".perimeter" / "audit.jsonl").exists()


def test_a_step_that_failed_is_where_the_next_apply_goes_on(setting: Setting) -> None:
    (setting.folder / "trouble").write_text("no room")
    with pytest.raises(ClusterError, match="step containerd failed on localhost: The last word"):
        setting.apply()
    _, unfinished = status_of(setting)
    assert unfinished == "containerd"

    (setting.folder / "trouble").unlink()
    report = setting.apply()
    outcomes = {step.step.name: step.outcome for step in report.steps}
    assert outcomes == {"node": Outcome.SKIPPED, "containerd": Outcome.DONE}
    assert report.resumed
    assert (setting.times("node"), setting.times("containerd")) == (1, 2)
    skips = [event for event in setting.events if event.kind is EventKind.SKIP]
    assert [(event.task, event.message) for event in skips] == [
        ("node", "an interrupted run finished it")
    ]
    assert status_of(setting) == ("2026.11", None)

    setting.apply()
    assert setting.times("node") == 2, "after a whole run everything runs again"


def test_a_run_that_was_killed_goes_on_at_the_step_that_did_not_finish(setting: Setting) -> None:
    (setting.folder / "gate").unlink()
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from perimeter_bundle.format.trust import Trust\n"
        "from perimeter_bundle.format.verify import open_bundle\n"
        "from perimeter_installer.run.apply import apply\n"
        "from tests.support.sites import open_site\n"
        f"bundle = open_bundle(Path({str(setting.made.root)!r}),"
        f" Trust.load(Path({str(setting.made.trust_folder)!r})))\n"
        f"apply(bundle, open_site(Path({str(setting.folder)!r}), {setting.registry.url!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        _wait_until(lambda: setting.times("containerd") == 1)
        with pytest.raises(HostError, match="another run works on this site") as raised:
            setting.apply()
        assert raised.value.code == "already-running"
        assert raised.value.context == {"holder": f"process {process.pid}: apply"}
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (setting.folder / "gate").touch()
    report = setting.apply()

    assert report.resumed
    assert setting.times("node") == 1, "the finished step was not done again"
    assert setting.times("containerd") == 2
    assert not list(Path("/dev/shm").glob(f"perimeter-run-{process.pid}-*"))


def test_one_step_alone(setting: Setting) -> None:
    report = setting.apply(only=("containerd",))
    assert [step.step.name for step in report.steps] == ["containerd"]
    assert status_of(setting) == (None, None), "one step is not an installation"
    with pytest.raises(InputError, match="there is no step registry in this plan"):
        setting.apply(only=("registry",))


def test_refuses_when_the_bundle_is_not_loaded(setting: Setting, tmp_path: Path) -> None:
    with Distribution(tmp_path / "other") as other:
        site = make_site(
            tmp_path / "elsewhere", registry_url=other.url, registry_ca=other.ca.certificate
        )
        with pytest.raises(HostError, match=r"release 2026\.11 is not loaded") as raised:
            apply(setting.bundle, site)
    assert raised.value.problems == ("the site's registry: 6 of 6 are missing",)
    assert not (tmp_path / "elsewhere" / "node").exists()


def test_refuses_an_older_release_than_was_begun(setting: Setting, tmp_path: Path) -> None:
    setting.apply()
    older = make_bundle(
        tmp_path / "older",
        release="2026.10",
        number=0,
        edit_manifest=phases,
        extra_files=playbooks(),
    )
    bundle = open_bundle(older.root, older.trust)
    with pytest.raises(InputError, match=r"release 2026\.10 is older") as raised:
        plan(bundle, setting.site)
    assert raised.value.code == "older-release"
    steps = plan(bundle, setting.site, ApplyOptions(allow_older=True))
    assert [step.name for step in steps] == ["node", "containerd"]


def test_refuses_a_role_or_playbook_that_changed_after_it_was_verified(setting: Setting) -> None:
    path = setting.made.root / layout.PLAYBOOKS / "node.yml"
    path.write_bytes(path.read_bytes().replace(b"is done", b"is evil"))
    with pytest.raises(IntegrityError, match="not the bytes that were signed") as raised:
        setting.apply()
    assert raised.value.code == "digest-mismatch"
    assert setting.times("node") == 0


def test_the_audit_log_says_who_did_what_and_how_it_ended(setting: Setting) -> None:
    setting.apply()
    (setting.folder / "trouble").write_text("no room")
    with pytest.raises(ClusterError):
        setting.apply(only=("containerd",))
    path = setting.folder / ".perimeter" / "audit.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["command"], line["result"]) for line in lines] == [
        ("apply", "started"),
        ("apply", "finished"),
        ("apply --step containerd", "started"),
        ("apply --step containerd", "failed"),
    ]
    assert all(line["bundle"] == str(setting.bundle.identity) for line in lines)
    assert all(line["user"] for line in lines)


def test_no_secret_is_in_anything_that_stays(setting: Setting) -> None:
    (setting.folder / "trouble").write_text(open_secrets(setting.site).minio_root_password)
    with pytest.raises(ClusterError) as raised:
        setting.apply()
    secrets = open_secrets(setting.site)
    (setting.folder / "trouble").unlink()
    kept = [path for path in (setting.folder / ".perimeter").rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in kept)
    texts = [path.read_text() for path in kept]
    texts += [str(raised.value), repr(secrets), repr(setting.events)]
    texts.append((setting.folder / "secrets.vault.yml").read_text())
    for value in secrets.values:
        assert not [text for text in texts if value in text]


def status_of(setting: Setting) -> tuple[str | None, str | None]:
    """The installed release, and the step at which an unfinished run stands."""
    found = status(setting.site)
    assert "no control plane answers" in found.cluster.problem
    return (
        found.installed.release if found.installed else None,
        found.unfinished.step if found.unfinished else None,
    )


def _wait_until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
