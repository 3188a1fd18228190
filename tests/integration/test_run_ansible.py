"""Playbooks through the real ansible-runner, on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perimeter_bundle.model.errors import ClusterError, HostError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind
from perimeter_installer.run.ansible import PlaybookJob, PlaybookResult, run_playbook
from perimeter_installer.run.private import PREFIX, private_folder
from perimeter_installer.run.scrub import Scrubber

SECRET = "geheim-0123456789-abcdef"
LOCAL = {
    "all": {
        "hosts": {"n1": {}, "n2": {}},
        "vars": {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
        },
    }
}


@pytest.fixture
def private() -> Iterator[Path]:
    with private_folder() as folder:
        yield folder


def job(folder: Path, playbook: str, *, check: bool = False, **variables: object) -> PlaybookJob:
    path = folder / "playbooks" / "step.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(playbook))
    (folder / "roles").mkdir(exist_ok=True)
    return PlaybookJob(
        name="step",
        playbook=path,
        roles=folder / "roles",
        collections=folder / "collections",
        inventory=LOCAL,
        variables={"folder": str(folder), **variables},
        log=folder / "step.log",
        check=check,
    )


def run(work: PlaybookJob, private: Path, events: list[Event] | None = None) -> PlaybookResult:
    seen = events if events is not None else []
    return run_playbook(work, private, Scrubber([SECRET]), seen.append)


def test_counts_what_changed_and_a_second_run_changes_nothing(
    tmp_path: Path, private: Path
) -> None:
    work = job(
        tmp_path,
        """\
        - hosts: all
          gather_facts: false
          tasks:
            - name: A file is there
              ansible.builtin.copy:
                content: "for {{ inventory_hostname }}"
                dest: "{{ folder }}/{{ inventory_hostname }}"
                mode: "0600"
        """,
    )
    events: list[Event] = []
    first = run(work, private, events)
    assert {host: stats.changed for host, stats in first.hosts.items()} == {"n1": 1, "n2": 1}
    assert (tmp_path / "n1").read_text() == "for n1"
    progress = {(event.task, event.message) for event in events if event.kind is EventKind.PROGRESS}
    assert progress == {(task, "A file is there") for task in ("step", "step/n1", "step/n2")}
    assert events[-1] == Event(EventKind.FINISH, "step", "2 changed on 2 hosts")

    with private_folder() as other:
        assert run(work, other).changed == 0


def test_check_shows_the_difference_in_the_log_and_changes_nothing(
    tmp_path: Path, private: Path
) -> None:
    work = job(
        tmp_path,
        """\
        - hosts: n1
          gather_facts: false
          tasks:
            - ansible.builtin.copy: {content: "new line", dest: "{{ folder }}/file", mode: "0600"}
        """,
        check=True,
    )
    assert run(work, private).changed == 1
    assert not (tmp_path / "file").exists()
    assert "+new line" in work.log.read_text()


def test_a_failed_task_names_host_task_message_and_log(tmp_path: Path, private: Path) -> None:
    work = job(
        tmp_path,
        """\
        - hosts: n2
          gather_facts: false
          tasks:
            - name: Ports are free
              ansible.builtin.assert:
                that: false
                fail_msg: port 6443 is taken
        """,
    )
    with pytest.raises(HostError, match="step step failed on n2: Ports are free") as raised:
        run(work, private)
    assert raised.value.code == "step-failed"
    assert raised.value.problems == ("n2: Ports are free: port 6443 is taken",)
    assert raised.value.context == {"log": str(work.log)}


def test_a_failure_through_the_api_is_the_clusters(tmp_path: Path, private: Path) -> None:
    work = job(
        tmp_path,
        """\
        - hosts: localhost
          gather_facts: false
          tasks:
            - ansible.builtin.fail: {msg: no pod became ready}
        """,
    )
    with pytest.raises(ClusterError, match="failed on localhost") as raised:
        run(work, private)
    assert "no pod became ready" in raised.value.problems[0]


def test_a_failure_that_is_ignored_or_rescued_is_none(tmp_path: Path, private: Path) -> None:
    work = job(
        tmp_path,
        """\
        - hosts: n1
          gather_facts: false
          tasks:
            - ansible.builtin.fail: {msg: never mind}
              ignore_errors: true
            - block:
                - ansible.builtin.fail: {msg: caught}
              rescue:
                - ansible.builtin.debug: {msg: mended}
        """,
    )
    assert run(work, private).hosts["n1"].failed == 0


def test_an_unreachable_host_is_named(tmp_path: Path, private: Path) -> None:
    work = job(
        tmp_path,
        """\
        - hosts: n1
          gather_facts: false
          vars:
            ansible_connection: ssh
            ansible_host: 127.0.0.1
            ansible_port: 1
          tasks:
            - ansible.builtin.ping:
        """,
    )
    with pytest.raises(HostError, match="step step: n1 did not answer") as raised:
        run(work, private)
    assert raised.value.code == "host-unreachable"
    assert "port 1" in raised.value.problems[0]


def test_a_broken_playbook_shows_what_ansible_says(tmp_path: Path, private: Path) -> None:
    work = job(tmp_path, "- hosts: all\n  roles: [nobody-wrote-this]\n")
    with pytest.raises(ClusterError, match="step step could not run") as raised:
        run(work, private)
    assert "nobody-wrote-this" in "\n".join(raised.value.problems)


def test_a_playbook_that_is_not_there_is_the_bundles_fault(tmp_path: Path, private: Path) -> None:
    work = job(tmp_path, "[]")
    work.playbook.unlink()
    with pytest.raises(IntegrityError, match=r"the bundle has no playbook step\.yml"):
        run(work, private)


def test_plays_on_localhost_use_this_python_and_do_not_become_root(
    tmp_path: Path, private: Path
) -> None:
    work = job(
        tmp_path,
        """\
        - hosts: localhost
          gather_facts: false
          tasks:
            - ansible.builtin.assert:
                that:
                  - ansible_connection == 'local'
                  - not ansible_become
            - ansible.builtin.command:
                argv: ["{{ ansible_python_interpreter }}", -c, "import perimeter_installer"]
              changed_when: false
        """,
    )
    inventory = {"all": {**LOCAL["all"], "vars": {"ansible_become": True}}}
    run(replace(work, inventory=inventory), private)


def test_the_callers_ansible_settings_do_not_matter(
    tmp_path: Path, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_INVENTORY", "/nowhere")
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", "/nowhere")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    work = job(
        tmp_path,
        """\
        - hosts: n1
          gather_facts: false
          tasks:
            - ansible.builtin.assert:
                that:
                  - lookup('env', 'ANSIBLE_INVENTORY') == ''
                  - lookup('env', 'KUBECONFIG') == ''
        """,
    )
    run(work, private)
    assert os.environ["ANSIBLE_INVENTORY"] == "/nowhere"


def test_secrets_are_in_no_log_no_event_no_error_and_no_command_line(
    tmp_path: Path, private: Path
) -> None:
    work = job(
        tmp_path,
        """\
        - hosts: n1
          gather_facts: false
          tasks:
            - name: Careless about {{ secret }}
              ansible.builtin.debug: {msg: "it is {{ secret }} or {{ secret | b64encode }}"}
            - ansible.builtin.pause: {seconds: 1}
            - name: Fails with {{ secret }}
              ansible.builtin.fail: {msg: "wrong {{ secret }}"}
        """,
        secret=SECRET,
    )
    events: list[Event] = []
    seen: list[str] = []
    done = threading.Event()
    watcher = threading.Thread(target=_watch_processes, args=(seen, done))
    watcher.start()
    try:
        with pytest.raises(HostError) as raised:
            run(work, private, events)
    finally:
        done.set()
        watcher.join()
    assert any("ansible-playbook" in line for line in seen), "the watcher saw nothing"
    assert not [line for line in seen if SECRET in line]
    text = work.log.read_text() + str(raised.value) + repr(events)
    assert SECRET not in text
    assert "it is *** or ***" in work.log.read_text()
    assert work.log.stat().st_mode & 0o777 == 0o600


def test_the_private_folder_is_gone_after_success_failure_and_interrupt(tmp_path: Path) -> None:
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        kept = folder
        run(job(tmp_path, "- {hosts: n1, gather_facts: false, tasks: []}"), folder)
    assert not kept.exists()
    with pytest.raises(KeyboardInterrupt), private_folder() as folder:
        kept = folder
        raise KeyboardInterrupt
    assert not kept.exists()


SLEEPER = """\
- hosts: n1
  gather_facts: false
  tasks:
    - ansible.builtin.command: {argv: [sleep, "60"]}
"""
DRIVER = """\
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from tests.integration.test_run_ansible import SLEEPER, job, run
from perimeter_installer.run.private import private_folder
with private_folder() as folder:
    print(folder, flush=True)
    run(job(Path({folder!r}), SLEEPER), folder)
"""


def test_sigint_ends_ansible_and_removes_the_private_folder(tmp_path: Path) -> None:
    process, folder = _start_driver(tmp_path)
    _wait_until(lambda: _processes_of(folder))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert not folder.exists()
    _wait_until(lambda: not _processes_of(folder))


def test_after_sigkill_the_next_start_ends_what_is_left_and_removes_the_folder(
    tmp_path: Path,
) -> None:
    process, folder = _start_driver(tmp_path)
    _wait_until(lambda: _processes_of(folder))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert folder.exists()

    with private_folder():
        assert not folder.exists()
    _wait_until(lambda: not _processes_of(folder))
    assert folder.name.startswith(PREFIX)


def _start_driver(tmp_path: Path) -> tuple[subprocess.Popen[bytes], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(path=sys.path, folder=str(tmp_path))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().decode().strip())


def _processes_of(folder: Path) -> list[int]:
    """Processes that were started with this private folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"={folder}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _wait_until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def _watch_processes(seen: list[str], done: threading.Event) -> None:
    while not done.wait(0.01):
        for path in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    seen.append((path / name).read_bytes().replace(b"\0", b" ").decode("utf-8"))
                except (OSError, UnicodeDecodeError):
                    continue
