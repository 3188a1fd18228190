"""lock, build, plan and inspect with a release whose parts do not belong together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.images import single_image
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server

from perimeter_bundle.cli.main import cli
from perimeter_bundle.format.layout import COHERENCE
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.review.coherence.judge import Judgement
from perimeter_bundle.terminal.guard import run_guarded


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MiniUpstream]:
    """The small upstream, and a mesh whose proxy is asked for at two versions."""
    server, ca_file = tls_server(tmp_path / "tls")
    monkeypatch.chdir(tmp_path)
    with server:
        mini = mini_upstream(server, tmp_path / "mini", ca_file)
        for name, tag in (("pilot", "1.28.0"), ("proxy", "1.28.0"), ("proxy", "1.29.0")):
            mini.serve_image(f"mesh/{name}", tag, single_image())
            add_image(mini, f"{mini.host}/mesh/{name}:{tag}")
        yield mini


def add_image(mini: MiniUpstream, image: str) -> None:
    path = mini.catalog_root / "shop" / "component.yaml"
    entry = f'images:\n  - {{reference: "{image}", why: it is a part}}\n'
    path.write_text(path.read_text().replace("images:\n", entry))


def accept(mini: MiniUpstream, finding: str) -> None:
    with (mini.catalog_root / "releases" / "mini.yaml").open("a") as stream:
        stream.write(f'accept:\n  - {{finding: "{finding}", reason: both are carried}}\n')


def mixed(mini: MiniUpstream) -> str:
    return f"mixed-versions:{mini.host}/mesh"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        run_guarded(cli, arguments)
    shown = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, shown.out, shown.err


def options(mini: MiniUpstream) -> tuple[str, ...]:
    return ("--catalog", str(mini.catalog_root), "--ca-file", str(mini.ca_file))


def test_lock_refuses_parts_that_do_not_belong_together_before_it_resolves_images(
    mini: MiniUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "lock", "mini", *options(mini))
    assert status == 2
    assert "error[incoherent]: release mini does not belong together: 1 problem" in err
    assert f"{mixed(mini)}: {mini.host}/mesh: 2 parts are at 1.28.0, but proxy 1.29.0" in err
    assert f"{mini.host}/mesh/proxy:1.29.0 (shop)" in err
    assert not Path("images.lock").exists()
    assert not [seen for seen in mini.server.seen if "/mesh/" in seen.path]


def test_what_is_accepted_is_shown_with_its_reason_and_carried_for_the_reviewer(
    mini: MiniUpstream, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    accept(mini, mixed(mini))
    status, out, err = run(capsys, "lock", "mini", *options(mini))
    assert status == 0, err
    assert "coherence: 1 error" in out
    assert "accepted: both are carried" in out
    plan = json.loads(run(capsys, "plan", "mini", "--json", *options(mini))[1])
    assert next((one["id"], one["accepted"]) for one in plan["coherence"]) == (
        mixed(mini),
        "both are carried",
    )
    first = mini.build(Path("images.lock").read_bytes(), tmp_path / "first")
    second = mini.build(Path("images.lock").read_bytes(), tmp_path / "second")
    data = (first.root / COHERENCE).read_bytes()
    assert data == (second.root / COHERENCE).read_bytes()
    judgement = Judgement.parse(data)
    assert judgement.to_bytes() == data
    assert judgement.reason(judgement.findings[0]) == "both are carried"
    _, out, _ = run(capsys, "inspect", str(first.root))
    assert out.endswith("\n".join(judgement.lines()) + "\n")
    shown = json.loads(run(capsys, "inspect", str(first.root), "--json")[1])
    assert shown["coherence"] == judgement.to_list()


def test_build_refuses_what_a_lock_was_written_for_before_it_was_accepted_no_more(
    mini: MiniUpstream, tmp_path: Path
) -> None:
    accept(mini, mixed(mini))
    lock = mini.lock()
    path = mini.catalog_root / "releases" / "mini.yaml"
    path.write_text(path.read_text().partition("accept:")[0])
    with pytest.raises(InputError) as caught:
        mini.build(lock, tmp_path / "bundle")
    assert caught.value.code == "incoherent"
    assert caught.value.problems[0].startswith(mixed(mini))


def test_an_acceptance_of_nothing_is_refused(
    mini: MiniUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    accept(mini, f"{mixed(mini)}-more")
    path = mini.catalog_root / "shop" / "component.yaml"
    path.write_text(path.read_text().replace(":1.29.0", ":1.28.0-copy"))
    mini.serve_image("mesh/proxy", "1.28.0-copy", single_image())
    status, _, err = run(capsys, "lock", "mini", *options(mini))
    assert status == 2
    assert f"{mixed(mini)}-more: is accepted, and was not found; take the acceptance out" in err
    assert not Path("images.lock").exists()


def test_a_chart_that_wants_another_kubernetes_is_refused(
    mini: MiniUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    accept(mini, mixed(mini))
    mini.serve_chart(mini.host + "/example/shop:1.0", "kubeVersion: '<9.0.0-0'\n")
    status, _, err = run(capsys, "lock", "mini", *options(mini))
    assert status == 2
    assert (
        "kubernetes-range:shop: chart shop 1.2.3 wants Kubernetes <9.0.0-0; the release has v9.9.9"
        in err
    )
