"""No command of perimeter-bundle shows or writes a secret it was given or came across.

Everything that a command prints, with --debug too, and every file that it leaves is searched.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.command import Ended, run_command
from tests.support.lying_server import Lie
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server

REGISTRY = "reg1stry-pa55"
PROXY = "pr0xy-pa55"
SIGNED = "s1gned-query"
PIP = "p1p-pa55"
IN_AN_OBJECT = "pa55-of-an-object"
BASIC = base64.b64encode(f"robot:{REGISTRY}".encode()).decode()


class Runner:
    """Runs commands and keeps what they print."""

    def __init__(self, mini: MiniUpstream, capsys: pytest.CaptureFixture[str]) -> None:
        self.mini = mini
        self.shown = ""
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Ended:
        ended = run_command(self._capsys, *arguments, "--debug")
        self.shown += ended.out + ended.err
        return ended

    def of_release(self, *arguments: str | Path) -> Ended:
        config = self.mini.folder / "docker.json"
        config.write_text(json.dumps({"auths": {self.mini.host: {"auth": BASIC}}}))
        network = ("--ca-file", self.mini.ca_file, "--docker-config", config)
        return self(*arguments, "--catalog", self.mini.catalog_root, *network)

    def secrets_in(self, *folders: Path) -> list[str]:
        """Where a secret stands, of everything printed so far and every file of the folders."""
        found = [f"printed: {one}" for one in SECRETS if one in self.shown]
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        assert files or not folders
        for path in files:
            data = path.read_bytes()
            found += [f"{path}: {one}" for one in SECRETS if one.encode() in data]
        return found


SECRETS = (REGISTRY, PROXY, SIGNED, PIP, IN_AN_OBJECT, BASIC)


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runner]:
    server, ca_file = tls_server(tmp_path / "tls")
    (tmp_path / "left").mkdir()
    monkeypatch.chdir(tmp_path / "left")
    monkeypatch.setenv("https_proxy", f"http://me:{PROXY}@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with server:
        mini = mini_upstream(server, tmp_path / "mini", ca_file)
        server.auth_scheme, server.login = "basic", ("robot", REGISTRY)
        server.lie(
            "/files/extra.yaml",
            *[Lie(307, headers={"Location": f"/files/again.yaml?X-Signature={SIGNED}"})] * 9,
        )
        server.serve("/files/again.yaml", server.files["/files/extra.yaml"].data)
        yield Runner(mini, capsys)


def test_logins_proxies_and_signed_addresses_are_in_no_output_and_no_file(
    run: Runner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for words in (
        ("discover", "shop"),
        ("plan", "mini", "--no-lock"),
        ("lock", "mini", "--unresolved", "--out", "names.lock"),
        ("lock", "mini"),
    ):
        ended = run.of_release(*words)
        assert ended.status == 0, ended.err
    assert any(one.headers.get("Authorization") for one in run.mini.server.seen)
    assert any(SIGNED in one.path for one in run.mini.server.seen)
    # the command would fetch perimeter's own wheels
    run.mini.server.auth_scheme = ""
    proxies = {
        "PIP_PROXY": f"http://me:{PIP}@127.0.0.1:9",
        "https_proxy": os.environ["https_proxy"],
    }
    run.mini.build(Path("images.lock").read_bytes(), Path("bundle"), more=proxies)
    for words in (
        ("diff", "names.lock", "images.lock"),
        ("why", "shop:1.0"),
        ("why", "*", "--bundle", "bundle"),
        ("keygen", "--out", "builder.key"),
        ("sign", "bundle", "--key", "builder.key"),
        ("inspect", "bundle"),
    ):
        ended = run(*words)
        assert ended.status == 0, ended.err
    run.shown += caplog.text
    assert run.secrets_in(tmp_path / "left") == []
    private = (tmp_path / "left" / "builder.key").read_text().splitlines()
    assert not [line for line in private[1:-1] if line in run.shown]


def test_a_refused_login_and_a_refused_address_are_told_without_their_secrets(run: Runner) -> None:
    run.mini.server.login = ("robot", "another")
    assert "error[unauthorized]" in run.of_release("lock", "mini").err
    run.mini.server.lie("/files/again.yaml", *[Lie(403)] * 9)
    ended = run.of_release("lock", "mini", "--unresolved")
    assert ended.status != 0
    assert "403 from" in ended.err
    assert any(SIGNED in one.path for one in run.mini.server.seen)
    assert run.secrets_in() == []


def test_secrets_of_objects_are_not_what_discovery_prints(run: Runner, tmp_path: Path) -> None:
    login = {"auths": {"registry.example": {"auth": BASIC, "password": IN_AN_OBJECT}}}
    objects = tmp_path / "left" / "objects"
    objects.mkdir()
    (objects / "secret.yaml").write_text(
        json.dumps(
            {
                "kind": "Secret",
                "metadata": {"name": "s"},
                "stringData": {
                    ".dockerconfigjson": json.dumps(login),
                    "password": IN_AN_OBJECT,
                    "address": f"https://me:{IN_AN_OBJECT}@store.example/a/b?X-Signature={SIGNED}",
                    "image": "quay.io/a/shop:1",
                },
                "data": {"key": base64.b64encode(f"-----{REGISTRY}-----".encode()).decode()},
            }
        )
    )
    ended = run("discover", objects, "--json")
    assert [one["image"] for one in json.loads(ended.out)["images"]] == ["quay.io/a/shop:1"]
    assert run.secrets_in() == []
