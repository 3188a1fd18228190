"""perimeter-bundle why and diff as a user calls them; they need no network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.command import Ended, run_command

from perimeter_bundle.format.layout import DISCOVERY, LOCK
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import Lock, LockedChart, LockedImage
from perimeter_bundle.model.locked_dependency import LockedDependency
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference

AMD64 = Platform("linux", "amd64")


class Runner:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ended:
        return run_command(self._capsys, *arguments)


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Runner:
    monkeypatch.chdir(tmp_path)
    Path("images.lock").write_bytes(lock().to_bytes())
    return Runner(capsys)


def image(text: str, pinned: str = "") -> LockedImage:
    reference = ImageReference.parse(text)
    digest = Digest.of_bytes((pinned or text).encode())
    why = (f"mesh: {reference.repository} runs beside every pod",)
    return LockedImage(reference, digest, "", {AMD64: digest}, 2**20, ("mesh",), why)


def lock(*more: LockedImage) -> Lock:
    images = (image("gcr.io/mesh/pilot:1.28.0"), image("gcr.io/mesh/proxyv2:1.28.0"), *more)
    return Lock("2026.11", 1, (AMD64,), images, (), ())


def test_why_tells_which_chart_asked_for_a_chart_inside_it(run: Runner) -> None:
    digest = Digest.of_bytes(b"grafana")
    inside = LockedDependency(
        *("charts/grafana-10.1.0.tgz", "grafana", "10.1.0", "10.x"),
        *("https://charts.example", "https://charts.example/grafana-10.1.0.tgz", digest, 5),
    )
    chart = LockedChart(
        *("stack", "1.0.0", "monitoring", "https://x.example", "https://x.example/a.tgz"),
        *(digest, 9, digest, (inside,)),
    )
    Path("images.lock").write_bytes(replace(lock(), charts=(chart,)).to_bytes())
    ended = run("why", "grafana:10*")
    assert ended.status == 0, ended.err
    assert ended.out == (
        "chart grafana 10.1.0, charts/grafana-10.1.0.tgz in chart stack\n"
        f"  {digest} from https://charts.example/grafana-10.1.0.tgz\n"
        "  needed by monitoring: stack 1.0.0 asks for 10.x\n"
    )
    told = json.loads(run("why", "grafana", "--json").out)
    assert [one["place"] for one in told["charts"]] == ["charts/grafana-10.1.0.tgz"]
    assert run("why", "loki").status == 2


def test_why_tells_component_and_reason_from_the_lock(run: Runner) -> None:
    ended = run("why", "proxyv2")
    assert ended.status == 0, ended.err
    assert ended.out == (
        "gcr.io/mesh/proxyv2:1.28.0\n"
        f"  {Digest.of_bytes(b'gcr.io/mesh/proxyv2:1.28.0')}\n"
        "  needed by mesh\n"
        "  mesh: mesh/proxyv2 runs beside every pod\n"
    )


def test_why_takes_globs_and_answers_in_json(run: Runner) -> None:
    answer = json.loads(run("why", "*mesh*", "--json").out)
    assert answer["release"] == "2026.11"
    assert [one["image"] for one in answer["images"]] == [
        "gcr.io/mesh/pilot:1.28.0",
        "gcr.io/mesh/proxyv2:1.28.0",
    ]


def test_why_an_unknown_image_names_the_nearest(run: Runner) -> None:
    ended = run("why", "proxyv3")
    assert ended.status == 2
    assert "error[unknown-image]: release 2026.11 has no image 'proxyv3'" in ended.err
    assert "hint: did you mean gcr.io/mesh/proxyv2:1.28.0?" in ended.err


def bundle(folder: Path, discovery: object) -> Path:
    (folder / LOCK).parent.mkdir(parents=True)
    (folder / LOCK).write_bytes(lock().to_bytes())
    (folder / DISCOVERY).write_text(json.dumps(discovery))
    return folder


def discovered() -> dict[str, object]:
    proxy = {
        "rule": "hub-image-tag",
        "written": "proxyv2",
        "source": "mesh/install",
        "object": "ConfigMap/mesh/injector",
        "path": "data[values] -> global.proxy.image",
    }
    bats = {**proxy, "rule": "container", "object": "Pod/test", "path": "spec.containers[0].image"}
    found = {
        "images": [{"image": "gcr.io/mesh/proxyv2:1.28.0", "evidence": [proxy]}],
        "excluded": [
            {
                "image": "docker.io/bats/bats:v1.4.1",
                "reason": "a test hook of the chart",
                "rule": "exclude docker.io/bats/bats:*",
                "evidence": [bats],
            }
        ],
        "unclassified": [],
        "not_images": [],
        "unused_rules": [],
    }
    return {"format": "perimeter-discovery/1", "components": {"mesh": found}}


def test_why_in_a_bundle_shows_object_field_and_rule(run: Runner, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", discovered())
    ended = run("why", "proxyv2", "--bundle", str(folder))
    assert ended.status == 0, ended.err
    assert ended.out.splitlines()[2:] == [
        "  needed by mesh",
        "  mesh: ConfigMap/mesh/injector data[values] -> global.proxy.image",
        "      hub-image-tag: proxyv2",
    ]
    ended = run("why", "bats", "--bundle", str(folder))
    assert ended.status == 0
    assert "left out by exclude docker.io/bats/bats:*: a test hook of the chart" in ended.out


@pytest.mark.parametrize(
    ("discovery", "code", "says"),
    [
        ({"format": "perimeter-discovery/9"}, "bad-discovery", "unknown format"),
        ({"format": "perimeter-discovery/1"}, "bad-discovery", "components must be a table"),
        (
            {
                "format": "perimeter-discovery/1",
                "components": {"a": {"images": [{"image": "A B"}]}},
            },
            "bad-discovery",
            "not an image reference",
        ),
        (["no object"], "bad-json", "not a JSON object"),
    ],
)
def test_a_bundle_with_a_broken_discovery_is_refused(
    run: Runner, tmp_path: Path, discovery: object, code: str, says: str
) -> None:
    folder = bundle(tmp_path / "bundle", discovery)
    ended = run("why", "proxyv2", "--bundle", str(folder))
    assert ended.status == 4
    assert f"error[{code}]" in ended.err
    assert says in ended.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("why", "x", "--lock", "gone.lock"), "no-lock"),
        (("why", "x", "--bundle", "gone"), "no-bundle"),
        (("why", "x", "--bundle", ".", "--lock", "images.lock"), "bad-option"),
        (("diff", "images.lock", "gone.lock"), "no-lock"),
        (("diff", "images.lock", "."), "no-lock"),
        (("diff", "images.lock", "bad.lock"), "bad-lock"),
        (("diff", "images.lock", "huge.lock"), "bad-lock"),
        (("diff", "images.lock"), "bad-option"),
    ],
)
def test_what_cannot_be_read_is_refused(run: Runner, arguments: tuple[str, ...], code: str) -> None:
    Path("bad.lock").write_text('format = "perimeter-lock/1"\nrelease = 5\n[[image]]\n')
    Path("huge.lock").write_bytes(b"#" * (17 * 2**20))
    ended = run(*arguments, "--json")
    assert ended.status == 2
    assert json.loads(ended.out)["error"]["code"] == code


def test_diff_shows_moved_names_changed_versions_and_what_to_fetch(run: Runner) -> None:
    moved = image("gcr.io/mesh/pilot:1.28.0", "pushed again")
    images = (moved, image("gcr.io/mesh/proxyv2:1.29.0"), image("gcr.io/mesh/cni:1.29.0"))
    Path("new.lock").write_bytes(replace(lock(), number=2, images=images).to_bytes())
    ended = run("diff", "images.lock", "new.lock")
    assert ended.status == 0, ended.err
    assert ended.out.splitlines() == [
        "2026.11 (number 1, linux/amd64) → 2026.11 (number 2, linux/amd64)",
        "",
        "mesh",
        "  ! image gcr.io/mesh/pilot 1.28.0 MOVED  1.0 MiB",
        f"      was {Digest.of_bytes(b'gcr.io/mesh/pilot:1.28.0')}",
        f"      is  {Digest.of_bytes(b'pushed again')}",
        "  ~ image gcr.io/mesh/proxyv2 1.28.0 → 1.29.0  1.0 MiB",
        "  + image gcr.io/mesh/cni 1.29.0  1.0 MiB",
        "",
        "1 MOVED, 1 changed, 1 added, 0 unchanged; at most 3.0 MiB to fetch",
    ]
    found = json.loads(run("diff", "images.lock", "new.lock", "--json").out)
    assert [change["change"] for change in found["changes"]] == ["moved", "changed", "added"]
    assert found["fetch_bytes"] == 3 * 2**20


def test_diff_of_two_bundles_reads_the_locks_inside(run: Runner, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", discovered())
    ended = run("diff", str(folder), "images.lock")
    assert ended.out.endswith("\n2 unchanged; at most 0 B to fetch\n")
