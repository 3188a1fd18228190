"""A release, then the next one as a delta: real builds, real registries with two replicas."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.command import run_command
from tests.support.distribution import Distribution
from tests.support.images import single_image
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server
from tests.support.sites import make_site

from perimeter_bundle.collect.room import room_of_lock
from perimeter_bundle.format.inventory import VerifiedInventory, open_inventory, write_inventory
from perimeter_bundle.format.signature import generate_key, sign_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import VerifiedBundle, open_bundle, verify_report
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, InputError
from perimeter_bundle.model.events import Event, EventKind, ignore_events
from perimeter_installer.check.base import check_base
from perimeter_installer.check.expected import expected_of
from perimeter_installer.check.recorder import CheckFailed
from perimeter_installer.cli import inventory_command, preflight_command
from perimeter_installer.cli.inventory_command import take
from perimeter_installer.cli.main import cli
from perimeter_installer.inventory.loaded import Loaded, carried
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.load import bundle_content, fill_replicas
from perimeter_installer.load.push import check_replica
from perimeter_installer.load.registry import PushClient

KIB = 1024
BYTES = random.Random("delta")
SHARED = BYTES.randbytes(6000 * KIB)
SHOP = (SHARED, BYTES.randbytes(12000 * KIB), BYTES.randbytes(4000 * KIB))
CONTROL = (SHARED, BYTES.randbytes(2000 * KIB))
NEW_CONTROL = (SHARED, BYTES.randbytes(600 * KIB))


@dataclass
class Story:
    """Release A, loaded into both replicas; release B whole and as a delta on that."""

    mini: MiniUpstream
    folder: Path
    ca: Distribution
    inventory: VerifiedInventory
    inventory_path: Path
    first: VerifiedBundle
    whole: VerifiedBundle
    delta: VerifiedBundle
    asked: list[str]  # of upstream, for the delta

    def replicas(self, folder: Path, *names: str) -> Iterator[Distribution]:
        """The replicas as they were after release A."""
        for name in names:
            shutil.copytree(self.folder / name / "data", folder / name / "data")
            yield Distribution(folder / name, ca=self.ca.ca)


def endpoint(name: str, registry: Distribution) -> RegistryEndpoint:
    return RegistryEndpoint.parse(name, registry.url, ca_pem=registry.ca.certificate)


def opened(root: Path, key: Path) -> VerifiedBundle:
    sign_bundle(root, key)
    return open_bundle(root, Trust.load(key.with_suffix(".pub")))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("delta")
    server, ca_file = tls_server(folder / "tls")
    for name in ("builder", "site"):
        generate_key(folder / f"{name}.key")
    builder = folder / "builder.key"
    with server:
        mini = mini_upstream(server, folder / "mini", ca_file, image_host="quay.io")
        for name in ("shop", "zcopy"):
            mini.serve_image(f"example/{name}", "1.0", single_image(layers=SHOP))
        mini.serve_image("example/control-plane", "1.0", single_image(layers=CONTROL))
        mini.build(mini.lock(), folder / "first")
        first = opened(folder / "first", builder)
        one = Distribution(folder / "n1")
        with one, Distribution(folder / "n2", ca=one.ca) as two:
            replicas = (endpoint("n1", one), endpoint("n2", two))
            fill_replicas(first, replicas)
            site = make_site(folder / "site")
            held = take(site, replicas, (), deep=True, on_event=ignore_events)
        path = folder / "inventory.json"
        write_inventory(held, path, folder / "site.key")
        inventory = open_inventory(path, Trust.load(folder / "site.pub"))
        mini.serve_image("example/control-plane", "1.0", single_image(layers=NEW_CONTROL))
        lock = mini.lock()
        mini.build(lock, folder / "whole")
        server.seen.clear()
        mini.build(lock, folder / "delta", against=inventory)
        asked = mini.blob_requests()
        yield Story(
            mini,
            folder,
            one,
            inventory,
            path,
            first,
            opened(folder / "whole", builder),
            opened(folder / "delta", builder),
            asked,
        )


def bytes_of(bundle: VerifiedBundle) -> int:
    return sum(bundle.sizes.values())


def test_a_delta_of_one_changed_image_is_a_fifth_of_the_whole_at_most(story: Story) -> None:
    base = story.delta.base
    assert base is not None
    share = bytes_of(story.delta) / bytes_of(story.whole)
    print(f"delta {bytes_of(story.delta)} of {bytes_of(story.whole)} bytes: {share:.1%}")
    assert share <= 0.20
    layers = {Digest.of_bytes(layer) for layer in SHOP}
    assert layers <= set(base.sizes)
    assert Digest.of_bytes(NEW_CONTROL[1]) not in base.sizes
    needs = {one.digest: set(one.items) for one in base.blobs}
    host = story.mini.host
    assert needs[Digest.of_bytes(SHARED)] == {
        f"{host}/example/{name}:1.0" for name in ("shop", "zcopy", "control-plane")
    }
    # apart from what is left out, and what says so, a delta is the whole
    assert set(story.whole.sizes) - set(story.delta.sizes) == {
        f"blobs/sha256/{digest.hex}" for digest in base.sizes
    }
    assert set(story.delta.sizes) - set(story.whole.sizes) == {"manifest/base.json"}


def test_what_is_left_out_is_not_asked_for_either(story: Story) -> None:
    assert story.delta.base is not None
    left_out = [digest for digest in story.delta.base.sizes if str(digest) in str(story.asked)]
    assert left_out == []
    assert "/files/plain.bin" not in story.asked and "/files/kubeadm" in story.asked
    names = {item for one in story.delta.base.blobs for item in one.items}
    assert "perimeter.internal/files/cluster/kubeadm:v9.9.9-amd64" in names  # run, then dropped


def test_verify_says_what_must_be_at_the_site(story: Story) -> None:
    trust = Trust.load(story.folder / "builder.pub")
    report = verify_report(story.delta.root, trust)
    assert report.bundle is not None
    base = story.delta.base
    assert base is not None
    assert (
        f"a delta on site test, as of {base.made_at}: {len(base.blobs)} blobs, {base.total_bytes}"
        " bytes must be in the site's registry already"
    ) in report.to_text()


def test_the_same_lock_and_inventory_give_the_same_bytes(story: Story, tmp_path: Path) -> None:
    lock = story.delta.lock
    again = story.mini.build(lock, tmp_path / "again", against=story.inventory)
    assert again.identity == story.delta.identity
    finished = story.mini.build(lock, tmp_path / "again", against=story.inventory)
    assert finished.identity == again.identity
    with pytest.raises(InputError) as caught:
        story.mini.build(lock, tmp_path / "again")
    assert caught.value.problems == ("manifest/base.json differs",)


def test_a_delta_loads_where_its_base_is_and_everything_resolves(
    story: Story, tmp_path: Path
) -> None:
    one, two = story.replicas(tmp_path, "n1", "n2")
    with one, two:
        report = fill_replicas(story.delta, (endpoint("n1", one), endpoint("n2", two)))
        again = fill_replicas(story.delta, (endpoint("n1", one), endpoint("n2", two)))
        assert report.changed and not again.changed
        sent = max(replica.bytes_sent for replica in report.replicas)
        assert sent < 700 * KIB
        for registry in (one, two):
            # every byte is there under every name that the whole bundle gives it
            client = PushClient(endpoint("n", registry))
            assert check_replica(client, bundle_content(story.whole)).complete
            client.close()


def test_a_delta_on_a_delta_works(story: Story, tmp_path: Path) -> None:
    one, two = story.replicas(tmp_path, "n1", "n2")
    with one, two:
        replicas = (endpoint("n1", one), endpoint("n2", two))
        fill_replicas(story.delta, replicas)
        site = make_site(tmp_path / "site")
        held = take(site, replicas, (), deep=False, on_event=ignore_events)
        write_inventory(held, tmp_path / "second.json", story.folder / "site.key")
        second = open_inventory(tmp_path / "second.json", Trust.load(story.folder / "site.pub"))
        result = story.mini.build(story.delta.lock, tmp_path / "third", against=second)
        third = opened(tmp_path / "third", story.folder / "builder.key")
        assert result.left_out_bytes > sum(map(len, (*SHOP, NEW_CONTROL[1])))
        assert not fill_replicas(third, replicas).changed


def test_elsewhere_a_delta_is_refused_with_the_whole_list_and_nothing_is_sent(
    story: Story, tmp_path: Path
) -> None:
    base = story.delta.base
    assert base is not None
    with Distribution(tmp_path / "other", ca=story.ca.ca) as other:
        with pytest.raises(HostError, match="the site's registry lacks") as caught:
            fill_replicas(story.delta, (endpoint("n9", other),))
        assert caught.value.code == "base-missing"
        assert other.blobs() == set()
    said = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == len(base.blobs)
    for blob in base.blobs:
        assert f"not on n9: {blob.digest}" in said
        assert all(item in said for item in blob.items)
    assert "bring the whole release" in (caught.value.hint or "")


def test_a_blob_that_one_replica_lost_since_is_named_and_no_replica_gets_a_byte(
    story: Story, tmp_path: Path
) -> None:
    gone = Digest.of_bytes(SHOP[1])
    one, two = story.replicas(tmp_path, "n1", "n2")
    shutil.rmtree(two.data / f"docker/registry/v2/blobs/sha256/{gone.hex[:2]}/{gone.hex}")
    with one, two:
        before = one.blobs()
        with pytest.raises(HostError) as caught:
            fill_replicas(story.delta, (endpoint("n1", one), endpoint("n2", two)))
        assert one.blobs() == before
    assert caught.value.code == "base-missing"
    (problem,) = caught.value.problems
    assert problem.startswith(f"not on n2: {gone}, 11.7 MiB, of {story.mini.host}/example/shop:1.0")


def lose(registry: Distribution, digest: Digest) -> None:
    """A blob goes from its disc; what it remembers of it goes with the process."""
    registry.stop()
    shutil.rmtree(registry.data / f"docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}")
    registry.start()


def test_preflight_names_each_blob_a_replica_lacks_and_one_that_is_away(
    story: Story,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = Digest.of_bytes(SHOP[1])
    base = story.delta.base
    assert base is not None
    (one,) = story.replicas(tmp_path, "n1")

    def findings(*more: str) -> list[dict[str, str]]:
        words = ["preflight", "--site", str(site.path), "--bundle", str(story.delta.root), *more]
        ended = run_command(
            capsys, *words, "--trust", str(story.folder / "builder.pub"), program=cli
        )
        assert ended.status == 1, ended.err  # the hosts are pinned by nobody
        found = json.loads(ended.out)["findings"] if more else []
        return [each for each in found if each["check"] == "base"] or [{"text": ended.out}]

    with one:
        site = make_site(tmp_path / "site", registry_url=one.url, registry_ca=one.ca.certificate)
        # site.yaml refuses a registry on loopback, which is all a test has
        monkeypatch.setattr(preflight_command, "load_site", lambda path: site)
        (held,) = findings("--json")
        assert (held["severity"], held["host"]) == ("ok", "the site's registry")
        assert held["what"].startswith(f"holds the {len(base.blobs)} blobs (")
        lose(one, gone)
        (lacks,) = findings("--json")
        (table,) = findings()
    needs = ", ".join(f"{story.mini.host}/example/{name}:1.0" for name in ("shop", "zcopy"))
    assert lacks["severity"] == "error"
    assert lacks["what"] == f"lacks {gone}, 11.7 MiB, of {needs}"
    assert f"the bundle is a delta on {base.about}" in lacks["why"]
    assert "bring the whole release" in lacks["how"]
    assert lacks["what"] in table["text"] and lacks["how"] in table["text"]
    (away,) = findings("--json")  # it is stopped now
    assert away["severity"] == "error" and "did not answer" in away["what"]
    assert "needs the whole release" in away["why"]


def test_check_fails_when_a_replica_lost_what_a_delta_left_out(
    story: Story, tmp_path: Path
) -> None:
    gone = Digest.of_bytes(SHOP[1])
    (one,) = story.replicas(tmp_path, "n1")
    with one:
        site = make_site(tmp_path / "site", registry_url=one.url, registry_ca=one.ca.certificate)
        expected = expected_of(site, story.delta)
        evidence = check_base(story.delta, expected, None)
        assert evidence[1:] == ["the site's registry holds them"]
        lose(one, gone)
        with pytest.raises(CheckFailed) as caught:
            check_base(story.delta, expected, None)
    (line,) = caught.value.evidence
    assert line.startswith(f"not on the site's registry: {gone}, 11.7 MiB, of {story.mini.host}")
    assert "bring the whole release" in caught.value.hint


def test_what_only_one_replica_holds_is_named_and_does_not_count(
    story: Story, tmp_path: Path
) -> None:
    gone = Digest.of_bytes(SHOP[1])
    one, two = story.replicas(tmp_path, "n1", "n2")
    shutil.rmtree(two.data / f"docker/registry/v2/blobs/sha256/{gone.hex[:2]}/{gone.hex}")
    with one, two:
        replicas = (endpoint("n1", one), endpoint("n2", two))
        held = take(make_site(tmp_path / "site"), replicas, (), deep=False, on_event=ignore_events)
    assert gone not in held.blobs
    host = story.mini.host
    assert [str(one) for one in held.uneven] == [
        f"{host}/example/shop: {gone} is not on n2",
        f"{host}/example/zcopy: {gone} is not on n2",
    ]
    assert set(story.inventory.inventory.blobs) - set(held.blobs) == {gone}


def test_bytes_that_rotted_count_only_until_they_are_hashed(story: Story, tmp_path: Path) -> None:
    rotten = Digest.of_bytes(SHOP[2])
    (one,) = story.replicas(tmp_path, "n1")
    path = one.data / f"docker/registry/v2/blobs/sha256/{rotten.hex[:2]}/{rotten.hex}/data"
    path.write_bytes(bytes(len(SHOP[2])))
    site = make_site(tmp_path / "site")
    events: list[Event] = []
    with one:
        replicas = (endpoint("n1", one),)
        asked = take(site, replicas, (), deep=False, on_event=ignore_events)
        hashed = take(site, replicas, (), deep=True, on_event=events.append)
    assert rotten in asked.blobs and not asked.hashed
    assert rotten not in hashed.blobs and hashed.hashed
    warnings = [event.message for event in events if event.kind is EventKind.WARNING]
    assert any(f"the bytes of {rotten} are" in text for text in warnings)


def test_what_has_no_tag_is_found_by_the_names_of_bundles(story: Story, tmp_path: Path) -> None:
    (one,) = story.replicas(tmp_path, "n1")
    for tags in one.data.rglob("_manifests/tags"):
        shutil.rmtree(tags)
    site = make_site(tmp_path / "site")
    with one:
        replicas = (endpoint("n1", one),)
        nothing = take(site, replicas, (), deep=False, on_event=ignore_events)
        loaded: tuple[Loaded, ...] = carried([story.first.root])
        held = take(site, replicas, loaded, deep=False, on_event=ignore_events)
    assert nothing.blobs == {}
    assert held.blobs == story.inventory.inventory.blobs
    assert [(one.release, one.identity) for one in held.releases] == [
        ("mini", story.first.identity)
    ]


def test_plan_and_inspect_tell_the_same_as_the_build(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = story.delta.base
    assert base is not None
    (tmp_path / "images.lock").write_bytes(story.delta.lock.to_bytes())
    mini = story.mini
    ended = run_command(
        capsys,
        *("plan", "mini", "--json", "--lock", str(tmp_path / "images.lock")),
        *("--against", str(story.inventory_path), "--trust", str(story.folder / "site.pub")),
        *("--catalog", str(mini.catalog_root), "--ca-file", str(mini.ca_file)),
        *("--mirror", f"quay.io={mini.server.url}"),
    )
    assert ended.status == 0, ended.err
    planned = json.loads(ended.out)["delta"]
    whole = room_of_lock(story.delta.lock)
    room = json.loads(ended.out)["room"]
    # three images share one layer, two of them all; the lock counts it in each
    counted = base.total_bytes + 2 * len(SHARED) + len(SHOP[1]) + len(SHOP[2])
    assert whole.registry_bytes - room["registry_bytes"] == counted
    assert whole.carrier_bytes - room["carrier_bytes"] == counted
    assert whole.jump_bytes - room["jump_bytes"] == counted
    assert whole.builder_bytes > room["builder_bytes"] > room["carrier_bytes"]
    assert whole.node_bytes == room["node_bytes"]
    assert room["registry_bytes"] > sum(map(len, NEW_CONTROL[1:]))
    shown = json.loads(run_command(capsys, "inspect", str(story.delta.root), "--json").out)["delta"]
    assert planned["blobs"] == shown["blobs"] == base.to_dict()["blobs"]
    assert planned["left_out_bytes"] == shown["left_out_bytes"] == base.total_bytes
    assert shown["carried_bytes"] >= bytes_of(story.delta)
    text = run_command(capsys, "inspect", str(story.delta.root)).out
    assert "a delta on site test, as of" in text and "quay.io/example/shop:1.0" in text
    assert "delta" not in json.loads(
        run_command(capsys, "inspect", str(story.whole.root), "--json").out
    )


def test_an_inventory_that_a_stranger_signed_is_refused(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate_key(tmp_path / "stranger.key")
    words = ["build", "mini", "--out", str(tmp_path / "out"), "--against"]
    words += [str(story.inventory_path)]
    ended = run_command(capsys, *words, "--trust", str(tmp_path / "stranger.pub"))
    assert ended.status == 5 and "error[not-trusted]" in ended.err
    ended = run_command(capsys, *words)
    assert ended.status == 2 and "--against needs --trust" in ended.err
    assert not (tmp_path / "out").exists()


def test_the_command_writes_a_signed_inventory_of_an_external_registry(
    story: Story,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (one,) = story.replicas(tmp_path, "n1")
    with one:
        site = make_site(tmp_path / "site", registry_url=one.url, registry_ca=one.ca.certificate)
        # site.yaml refuses a registry on loopback, which is all a test has
        monkeypatch.setattr(inventory_command, "load_site", lambda path: site)
        out = tmp_path / "inventory.json"
        words = ["inventory", "--site", str(site.path), "--out", str(out), "--json"]
        refused = run_command(capsys, *words, program=cli)
        ended = run_command(capsys, *words, "--new-key", program=cli)
    assert refused.status == 2 and '"no-site-key"' in refused.out
    assert ended.status == 0, ended.err
    told = json.loads(ended.out)
    assert told["blobs"] == len(story.inventory.inventory.blobs) and told["uneven"] == []
    opened_again = open_inventory(out, Trust.load(tmp_path / "site" / "site.pub"))
    assert opened_again.inventory.blobs == story.inventory.inventory.blobs
    assert "127.0.0.1" not in out.read_text()
