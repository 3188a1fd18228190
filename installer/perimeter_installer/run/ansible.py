"""One playbook run through ansible-runner: progress out, log on disc, secrets in memory alone.

Everything Ansible reads or writes for itself lies in the private folder that the caller made on a
file system in memory. https://ansible.readthedocs.io/projects/runner/en/2.4/
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import perimeter_bundle
import perimeter_installer
from perimeter_bundle.model.errors import HostError, IntegrityError
from perimeter_bundle.model.events import Event, EventKind, OnEvent
from perimeter_installer.run.playbook_events import EventReader, HostStats
from perimeter_installer.run.private import OWNER_VARIABLE, write_private
from perimeter_installer.run.scrub import Scrubber

# A step that prints nothing for this long hangs: the longest silent tasks are image pulls.
SILENCE_TIMEOUT_S = 1800
STEP_TIMEOUT_S = 4 * 3600
FORKS = 20
LOCALHOST_VARIABLES = {"ansible_become": False}


@dataclass(frozen=True, slots=True)
class PlaybookJob:
    """What to run. ``variables`` may hold secrets; ``name`` is the step's."""

    name: str
    playbook: Path
    roles: Path
    collections: Path
    inventory: Mapping[str, object]
    variables: Mapping[str, object]
    log: Path
    check: bool = False


@dataclass(frozen=True, slots=True)
class PlaybookResult:
    """How it went, for each host."""

    hosts: Mapping[str, HostStats]

    @property
    def changed(self) -> int:
        """Number of changed tasks on all hosts."""
        return sum(stats.changed for stats in self.hosts.values())


def run_playbook(
    job: PlaybookJob, private: Path, scrub: Scrubber, on_event: OnEvent
) -> PlaybookResult:
    """Runs ``job`` to its end.

    Raises HostError or ClusterError naming host, task, message and log; KeyboardInterrupt after
    SIGINT or SIGTERM, when Ansible has ended.
    """
    if not job.playbook.is_file():
        raise IntegrityError(
            "no-playbook",
            f"the bundle has no playbook {job.playbook.name}",
            context={"looked at": job.playbook},
            hint="the bundle was built wrongly; build it again",
        )
    folder = private / job.name
    _lay_out(folder, job)
    on_event(Event(EventKind.START, job.name, "runs"))
    with _open_log(job.log) as log, _signals_noted() as interrupted, _environment_of_our_own():
        reader = EventReader(job.name, on_event, lambda text: _write(log, scrub(text)), scrub)
        status = _start(job, folder, private, reader, interrupted)
    if status != "successful":
        on_event(Event(EventKind.FAIL, job.name))
    if interrupted.is_set():
        raise KeyboardInterrupt
    if status != "successful":
        raise reader.failure(job.log, status)
    result = PlaybookResult(reader.stats)
    on_event(Event(EventKind.FINISH, job.name, _summary(result)))
    return result


def _start(
    job: PlaybookJob,
    folder: Path,
    private: Path,
    reader: EventReader,
    interrupted: threading.Event,
) -> str:
    """Calls ansible-runner; gives back successful, failed, canceled or timeout."""
    import ansible_runner

    runner = ansible_runner.run(
        private_data_dir=str(folder),
        project_dir=str(job.playbook.parent),
        playbook=str(job.playbook),
        inventory=str(folder / "inventory"),
        cmdline="--check --diff" if job.check else None,
        envvars=_environment(job, private),
        settings={"idle_timeout": SILENCE_TIMEOUT_S, "job_timeout": STEP_TIMEOUT_S},
        ident="run",
        quiet=True,
        event_handler=reader.on_runner_event,
        cancel_callback=interrupted.is_set,
    )
    return str(runner.status)


def _lay_out(folder: Path, job: PlaybookJob) -> None:
    """The folder as ansible-runner wants it; variables go in as a file, never as arguments."""
    folder.mkdir(mode=0o700)
    write_private(folder / "inventory" / "hosts.json", _json(job.inventory))
    write_private(folder / "inventory" / "host_vars" / "localhost.json", _json(LOCALHOST_VARIABLES))
    write_private(folder / "env" / "extravars", _json(job.variables))
    write_private(folder / "ansible.cfg", b"[defaults]\n")


def _environment(job: PlaybookJob, private: Path) -> dict[str, str]:
    """Settings of Ansible; no secret is among them, since anyone's ps can show an environment."""
    folder = private / job.name
    program_folder = str(Path(sys.executable).parent)
    packages = [Path(package.__file__ or "").parent.parent for package in _PACKAGES]
    return {
        OWNER_VARIABLE: str(private),
        "PATH": f"{program_folder}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "PYTHONPATH": ":".join(dict.fromkeys(map(str, packages))),
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / "cp"),
        "ANSIBLE_ROLES_PATH": str(job.roles),
        "ANSIBLE_COLLECTIONS_PATH": str(job.collections),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_FORKS": str(FORKS),
        "ANSIBLE_SSH_RETRIES": "2",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "False",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_NOCOLOR": "1",
    }


_PACKAGES = (perimeter_installer, perimeter_bundle)


@contextmanager
def _environment_of_our_own() -> Iterator[None]:
    """Hides the caller's Ansible and Python settings, which ansible-runner would hand on."""
    hidden = {
        name: os.environ.pop(name)
        for name in tuple(os.environ)
        if name.startswith(("ANSIBLE_", "PYTHON", "K8S_AUTH_")) or name == "KUBECONFIG"
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _signals_noted() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event instead of breaking into ansible-runner's loop."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupted.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _open_log(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError("cannot-write", f"cannot write {path}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode("utf-8", "replace") + b"\n")


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, indent=1).encode()


def _summary(result: PlaybookResult) -> str:
    hosts = len(result.hosts)
    return f"{result.changed} changed on {hosts} host{'' if hosts == 1 else 's'}"
