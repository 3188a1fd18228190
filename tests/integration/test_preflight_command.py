"""init and preflight as a user types them, against a real sshd that answers for three hosts."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.preflight_sshd import ADMIN, PLAIN, Sshd, free_port, need_sshd, need_sudo

pytestmark = need_sshd

ROOT = Path(__file__).parents[2]
ADDRESSES = ("10.98.0.11", "10.98.0.12", "10.98.0.13")


class Jump:
    """A folder for a site, and the program run in the network of the hosts."""

    def __init__(self, sshd: Sshd, folder: Path) -> None:
        self.sshd, self.folder = sshd, folder
        self.key = folder / "key"
        shutil.copy(sshd.user_key, self.key)
        self.key.chmod(0o600)

    @property
    def command(self) -> list[str]:
        return [*self.sshd.inside(), sys.executable, "-m", "perimeter_installer.cli.main"]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": f"{ROOT}/bundle:{ROOT}/installer", "COLUMNS": "200"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments], cwd=self.folder, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def init(self, *more: str, user: str = "root", count: int = 1) -> Any:
        hosts = []
        for number, address in enumerate(ADDRESSES[:count], 1):
            hosts += ["--host", f"n{number}={address}:control_plane,worker,registry"]
        done = self.run(
            "init", "--name", "lab", "--ssh-user", user, "--ssh-key", "key", "--no-dns", *hosts,
            *more,
        )  # fmt: skip
        self.use_port()
        return done

    def use_port(self) -> None:
        """sshd does not listen on 22 here, and init has no option for a port on purpose."""
        path = self.folder / "site.yaml"
        if path.exists():
            text = path.read_text().replace("    address:", f"    ssh_port: {self.sshd.port}\n"
                                            "    address:")  # fmt: skip
            path.write_text(text)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"), addresses=ADDRESSES)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def jump(sshd: Sshd, tmp_path: Path) -> Jump:
    return Jump(sshd, tmp_path)


def described(jump: Jump, **options: Any) -> Jump:
    """site.yaml is written and the keys are pinned."""
    assert jump.init("--no-pin", **options).returncode == 0
    done = jump.run("init", "--pin", "--yes")
    assert done.returncode == 0, done.stderr
    return jump


def errors_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    found = json.loads(done.stdout)["findings"]
    return [each for each in found if each["severity"] == "error"]


def test_init_writes_what_it_says_and_every_file_has_its_mode(jump: Jump) -> None:
    done = jump.init("--no-pin", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["made"] == ["site.yaml", "vault.key", "trust/"]
    assert jump.files() == ["key", "site.yaml", "trust", "vault.key"]
    assert (jump.folder / "vault.key").stat().st_mode & 0o777 == 0o600
    assert len((jump.folder / "vault.key").read_text().strip()) >= 43
    assert "next: " in done.stderr


def test_init_never_writes_over_a_site(jump: Jump) -> None:
    jump.init("--no-pin")
    (jump.folder / "site.yaml").write_text("mine\n")
    key = (jump.folder / "vault.key").read_text()
    done = jump.init("--no-pin")
    assert done.returncode == 2
    assert "exists already and was left as it is" in done.stderr
    assert (jump.folder / "site.yaml").read_text() == "mine\n"
    assert jump.init("--no-pin", "--force").returncode == 0
    assert (jump.folder / "site.yaml").read_text() != "mine\n"
    assert (jump.folder / "vault.key").read_text() == key


def test_pin_wants_somebody_to_confirm_the_keys(jump: Jump) -> None:
    jump.init("--no-pin", count=3)
    done = jump.run("init", "--pin")
    assert done.returncode == 2
    assert "nobody confirmed the host keys of n1, n2, n3" in done.stderr
    assert jump.sshd.fingerprint in done.stderr
    assert "known_hosts" not in jump.files()


def test_a_named_fingerprint_is_confirmation_enough(jump: Jump) -> None:
    jump.init("--no-pin")
    done = jump.run("init", "--pin", "--fingerprint", f"n1={jump.sshd.fingerprint}")
    assert done.returncode == 0, done.stderr
    assert "known_hosts" in jump.files()


def test_another_key_than_the_named_one_pins_nothing(jump: Jump) -> None:
    jump.init("--no-pin")
    done = jump.run("init", "--pin", "--yes", "--fingerprint", f"n1=SHA256:{'A' * 43}")
    assert done.returncode == 5
    assert f"n1: expected SHA256:{'A' * 43}, offered ssh-ed25519 {jump.sshd.fingerprint}" in (
        done.stderr
    )
    assert "known_hosts" not in jump.files()


def test_a_host_that_does_not_answer_keeps_init_from_writing_anything(jump: Jump) -> None:
    """The default port: nobody listens there."""
    done = jump.init("--yes")
    assert done.returncode == 6
    assert "refuses the connection" in done.stderr
    assert jump.files() == ["key"]


def test_pinning_again_changes_nothing(jump: Jump) -> None:
    described(jump)
    before = (jump.folder / "known_hosts").read_bytes()
    done = jump.run("init", "--pin")
    assert done.returncode == 0
    assert "pinned before" in done.stderr
    assert (jump.folder / "known_hosts").read_bytes() == before


def test_init_asks_on_a_terminal(jump: Jump) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*jump.command, "init", "--no-pin"], cwd=jump.folder, env=jump.environment,
        stdin=slave, stdout=subprocess.PIPE, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    host = "n1=10.98.0.11:control_plane,worker,registry"
    answers = ["plant", "root", "key", "n1 10.98.0.11", host, "", "10.98.0.53"]
    for answer in answers:
        time.sleep(0.3)
        os.write(master, f"{answer}\n".encode())
    output = process.communicate(timeout=60)[0]
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert process.returncode == 0, shown
    assert "cannot read the host 'n1 10.98.0.11'" in shown
    assert b"wrote site.yaml" in output
    text = (jump.folder / "site.yaml").read_text()
    assert "name: plant" in text
    assert "servers: [10.98.0.53]" in text


def test_preflight_judges_every_host_and_ends_with_1(jump: Jump) -> None:
    done = described(jump, count=3).run("preflight", "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["findings"]
    assert {each["host"] for each in found if each["check"] == "reachability"} == {
        "n1", "n2", "n3"
    }  # fmt: skip
    clones = [each for each in errors_of(done) if each["check"] == "machine ids"]
    assert clones[0]["host"] == "n1,n2,n3"
    routes = [each for each in found if each["check"] == "default route"]
    assert {each["severity"] for each in routes} == {"info"}
    assert all(each["why"] for each in found if each["severity"] != "ok")


def test_preflight_prints_a_table_for_people(jump: Jump) -> None:
    done = described(jump).run("preflight")
    assert done.stdout.startswith("severity  host")
    assert "errors" in done.stdout.splitlines()[-1] or "error," in done.stdout.splitlines()[-1]
    assert "next: mend the errors" in done.stderr


def test_preflight_refuses_hosts_that_were_not_pinned(jump: Jump) -> None:
    jump.init("--no-pin")
    error = errors_of(jump.run("preflight", "--json"))[0]
    assert error["check"] == "reachability"
    assert "no host key is pinned for n1" in error["what"]
    assert "init --pin" in error["how"]


def test_preflight_and_init_refuse_a_changed_host_key(tmp_path: Path) -> None:
    server = Sshd(tmp_path / "sshd", addresses=ADDRESSES)
    server.start()
    try:
        folder = tmp_path / "site"
        folder.mkdir()
        jump = described(Jump(server, folder))
        before = server.fingerprint
        pinned = (folder / "known_hosts").read_bytes()
        server.stop()
        server.new_host_key()
        server.start()
        error = errors_of(jump.run("preflight", "--json"))[0]
        again = jump.run("init", "--pin", "--yes")
    finally:
        server.stop()
    assert before in error["what"]
    assert server.fingerprint in error["what"]
    assert again.returncode == 6
    assert "error[ssh-host-key-changed]" in again.stderr
    assert before in again.stderr
    assert (folder / "known_hosts").read_bytes() == pinned


def test_preflight_names_a_login_that_is_refused(jump: Jump) -> None:
    described(jump)
    other = jump.folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    path = jump.folder / "site.yaml"
    path.write_text(path.read_text().replace("key_file: key", "key_file: other"))
    error = errors_of(jump.run("preflight", "--json"))[0]
    assert "does not let root in" in error["what"]


@need_sudo
def test_preflight_names_a_user_whose_sudo_wants_a_password(jump: Jump) -> None:
    error = errors_of(described(jump, user=PLAIN).run("preflight", "--json"))[0]
    assert error["check"] == "reachability"
    assert "does not work without a password" in error["what"]


@need_sudo
def test_preflight_through_sudo_sees_what_root_sees(jump: Jump) -> None:
    done = described(jump, user=ADMIN).run("preflight", "--json")
    checks = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    assert checks["privilege"]["severity"] == "ok"


def test_a_user_without_sudo_is_told_that_root_is_needed(jump: Jump) -> None:
    described(jump, user=PLAIN)
    path = jump.folder / "site.yaml"
    path.write_text(path.read_text().replace("  # become: true", "  become: false  #"))
    errors = errors_of(jump.run("preflight", "--json"))
    assert f"user {PLAIN} is not root there" in [each["what"] for each in errors]


@need_sudo
def test_ansible_reaches_the_host_as_root_by_the_same_inventory(jump: Jump) -> None:
    described(jump, user=ADMIN)
    script = (
        "import json\n"
        "from pathlib import Path\n"
        "from perimeter_installer.site.inventory import inventory\n"
        "from perimeter_installer.site.load import load\n"
        "Path('inventory.json').write_text(json.dumps(inventory(load(Path('site.yaml')))))\n"
    )
    subprocess.run(
        [sys.executable, "-c", script], cwd=jump.folder, env=jump.environment, check=True
    )
    ansible = str(Path(sys.executable).parent / "ansible")
    words = [*jump.sshd.inside(), ansible, "-i", "inventory.json", "registry", "-a", "id -u"]
    environment = {**jump.environment, "ANSIBLE_REMOTE_TEMP": "/tmp"}
    done = subprocess.run(
        words, cwd=jump.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "0", done.stdout + done.stderr


@contextmanager
def silent_second_host(jump: Jump) -> Iterator[None]:
    """n2 takes connections and says nothing; its key is pinned."""
    described(jump, count=3)
    port = free_port()
    for name, old, new in (
        ("known_hosts", f"[10.98.0.12]:{jump.sshd.port}", f"[10.98.0.12]:{port}"),
        (
            "site.yaml",
            f"ssh_port: {jump.sshd.port}\n    address: 10.98.0.12",
            f"ssh_port: {port}\n    address: 10.98.0.12",
        ),
    ):
        path = jump.folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    script = (
        "import socket, time\n"
        f"server = socket.create_server(('10.98.0.12', {port}))\n"
        "print('ready', flush=True)\n"
        "time.sleep(300)\n"
    )
    process = subprocess.Popen(
        [*jump.sshd.inside(), sys.executable, "-c", script], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_a_host_that_answers_nothing_is_one_error_and_the_others_are_judged(jump: Jump) -> None:
    with silent_second_host(jump):
        done = jump.run("preflight", "--json")
    found = json.loads(done.stdout)["findings"]
    errors = [each for each in errors_of(done) if each["host"] == "n2"]
    assert [each["check"] for each in errors] == ["reachability"]
    assert "takes the connection and then answers nothing for 10 s" in errors[0]["what"]
    assert [each for each in found if each["host"] == "n1" and each["check"] == "kernel"]
    assert done.returncode == 1


def test_interrupting_does_not_wait_for_a_host_that_answers_nothing(jump: Jump) -> None:
    with silent_second_host(jump):
        process = subprocess.Popen(
            [*jump.command, "preflight"], cwd=jump.folder, env=jump.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        line = process.stderr.readline()  # one is done; n2 is waited for
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert "done facts/n" in line
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert time.monotonic() - started < 5
