"""A point update as a delta, in volumes: only what the site's registry lacks is carried.

The site says what its registry holds; the builder leaves that out, signs, and cuts what remains
into volumes; one of them is lost on the way. Nothing but volume 1 is unpacked on the jump host.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.lab.nodes import Result
from tests.lab.oci import OCI, Entry, Layout
from tests.lab.scenario import KEY, RELEASE, SITE, TRUST, Scenario

pytestmark = pytest.mark.lab

# on the builder
AT_BUILDER = "/srv/delta"
LOCK = f"{AT_BUILDER}/images.lock"
BUILT = f"{AT_BUILDER}/{RELEASE}"
PACKED = f"{AT_BUILDER}/volumes"
FROM_SITE = "/srv/from-site"
SITE_KEY = "/srv/keys/site.pub"

# on the jump host
TOLD = "/srv/told"
VOLUMES = "/srv/delta/volumes"
UNPACKED = f"/srv/delta/{RELEASE}"
OTHER_SITE = "/srv/other/site.yaml"

IMAGE = "registry.lab.test/team/train:1.0"
LAYERS_BYTES = (24_000_000, 8_000_000)
VOLUME_SIZE = "100M"  # all that playbooks need as files is in volume 1
LOST = 2
EMPTY_REGISTRY_PORT = 5443
EMPTY_REGISTRY = "/var/lib/empty-registry"
REGISTRY_BLOBS = "/var/lib/perimeter/registry/docker/registry/v2/blobs/sha256"


@dataclass(frozen=True)
class Delta:
    """The delta, and what both sides said while it was made."""

    road: Scenario
    inventory: Any  # as the jump host printed it
    planned: Any
    whole_room: Any
    base: Any  # manifest/base.json

    def install(self, verb: str, *arguments: str, site: str = SITE) -> Result:
        """``perimeter-install VERB`` on the jump host, straight from the volumes."""
        words = ["perimeter-install", verb, "--site", site, "--bundle", UNPACKED]
        words += ["--volumes", VOLUMES, "--trust", TRUST, *arguments]
        return self.road.lab.node("jump").run(words, check=False, timeout_s=1200)

    def install_json(self, verb: str, status: int = 0, site: str = SITE) -> Any:
        """Its result; it ends with ``status``."""
        done = self.install(verb, "--json", site=site)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    def base_findings(self, site: str = SITE, status: int = 0) -> list[dict[str, str]]:
        """What preflight says of the registry."""
        findings = self.install_json("preflight", status, site)["findings"]
        return [each for each in findings if each["check"] == "base"]


@pytest.fixture(scope="module")
def delta(installed: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Delta:
    """An update with one more image: built against the site's inventory, packed and carried."""
    road, builder, jump = installed, installed.lab.node("builder"), installed.lab.node("jump")
    jump.run(["mkdir", "-p", TOLD, str(Path(VOLUMES).parent)])
    words = ["inventory", "--out", f"{TOLD}/inventory.json", "--new-key"]
    inventory = road.install_json(*words, bundle=False)
    road.lab.carry(TOLD, "jump", "builder", FROM_SITE)
    key = jump.run(["cat", "/srv/site/site.pub"]).stdout  # by another way
    builder.run(["sh", "-c", f"cat > {SITE_KEY}"], input=key)

    layout = tmp_path_factory.mktemp("layout")
    write_image(layout)
    builder.run(["mkdir", "-p", AT_BUILDER])
    builder.push(layout, f"{AT_BUILDER}/train")
    workloads = f"{AT_BUILDER}/workloads.yaml"
    text = f"images: [{{reference: '{IMAGE}', from: 'oci-layout:./train', why: trains}}]\n"
    builder.run(["sh", "-c", f"cat > {workloads}"], input=text)
    release = [RELEASE, "--ca-file", "/etc/ssl/upstream-ca.crt", "--workloads", workloads]
    road.bundle("lock", *release, "--out", LOCK)
    locked = [*release, "--lock", LOCK]
    against = ["--against", f"{FROM_SITE}/inventory.json", "--trust", SITE_KEY]
    whole = json.loads(road.bundle("plan", *locked, "--json").stdout)
    planned = json.loads(road.bundle("plan", *locked, *against, "--json").stdout)
    road.bundle("build", *locked, *against, "--out", BUILT)
    base = json.loads(builder.run(["cat", f"{BUILT}/manifest/base.json"]).stdout)
    road.bundle("sign", BUILT, "--key", KEY)
    road.bundle("pack", BUILT, "--out", PACKED, "--volume-size", VOLUME_SIZE, "--parity", "1")
    road.lab.carry(PACKED, "builder", "jump", VOLUMES)
    jump.run(f"tar -C {Path(UNPACKED).parent} -xf {VOLUMES}/{RELEASE}.v001.tar")
    return Delta(road, inventory, planned, whole["room"], base)


def write_image(folder: Path) -> None:
    """A small image of bytes that cannot be compressed, as an OCI layout."""
    layout, source = Layout(folder), random.Random(IMAGE)
    layers = [
        layout.put_layer({f"data/{number}": Entry("file", source.randbytes(size), 0o644)})
        for number, size in enumerate(LAYERS_BYTES)
    ]
    layout.tag(IMAGE, [layout.put_manifest(layers, "amd64", {}, OCI)], OCI)
    layout.finish()


def volume(number: int) -> str:
    return f"{VOLUMES}/{RELEASE}.v{number:03}.tar"


def test_the_inventory_is_what_both_replicas_hold_and_names_no_address(delta: Delta) -> None:
    assert delta.inventory["replicas"] == ["n1", "n2"]
    assert delta.inventory["blobs"] > 40 and delta.inventory["uneven"] == []
    assert [one["release"] for one in delta.inventory["releases"]] == [RELEASE]
    text = delta.road.jump(f"cat {TOLD}/inventory.json").stdout
    assert "10.99.0" not in text
    assert delta.road.jump("stat -c %a /srv/site/site.key").stdout.strip() == "600"


def test_the_delta_carries_what_is_new_and_plan_said_so(delta: Delta) -> None:
    left_out = delta.planned["delta"]["left_out_bytes"]
    assert left_out > 5 * sum(LAYERS_BYTES)
    assert IMAGE not in {item for blob in delta.base["blobs"] for item in blob["items"]}
    room = delta.planned["room"]
    for each in ("carrier_bytes", "jump_bytes", "registry_bytes"):
        assert delta.whole_room[each] - room[each] >= left_out
    assert room["node_bytes"] == delta.whole_room["node_bytes"]
    # compiled images count as carried in plan, and are left out all the same
    assert len(delta.base["blobs"]) >= delta.planned["delta"]["left_out_blobs"]


def test_a_lost_volume_is_named_then_repaired_on_the_jump_host(delta: Delta) -> None:
    jump = delta.road.lab.node("jump")
    before = jump.run(["sha256sum", volume(LOST)]).stdout
    jump.run(["rm", volume(LOST)])
    done = delta.install("verify")
    assert done.returncode == 4, done.stderr
    assert f"volumes that are not here: {LOST}\n" in done.stderr, done.stderr
    script = f"sh {UNPACKED}/verify.sh --volumes {VOLUMES} {TRUST}/builder.pub"
    assert delta.road.jump(script, check=False).returncode != 0
    delta.road.jump(f"perimeter-install repair {VOLUMES}")
    assert jump.run(["sha256sum", volume(LOST)]).stdout == before
    delta.road.jump(script)


def test_verify_and_preflight_read_the_volumes_and_find_the_base(delta: Delta) -> None:
    report = delta.install_json("verify")
    blobs = len(delta.base["blobs"])
    assert f"{blobs} blobs" in json.dumps(report)
    found = delta.base_findings()
    assert {each["host"]: each["severity"] for each in found} == {"n1": "ok", "n2": "ok"}
    assert all(f"{blobs} blobs" in each["what"] for each in found)


def test_a_site_that_lacks_the_base_is_refused_and_each_blob_is_named(delta: Delta) -> None:
    wanted = {blob["digest"] for blob in delta.base["blobs"]}
    with_empty_registry(delta.road)
    try:
        found = delta.base_findings(OTHER_SITE, status=1)
        error = delta.install_json("load", 6, OTHER_SITE)["error"]
        stored = delta.road.lab.node("n1").run(["find", EMPTY_REGISTRY, "-type", "f"]).stdout
    finally:
        delta.road.lab.node("n1").run("systemctl stop empty-registry")
    assert {each["severity"] for each in found} == {"error"}
    assert {each["what"].split()[1].rstrip(",") for each in found} == wanted
    assert error["code"] == "base-missing" and len(error["problems"]) == len(wanted)
    assert all(any(digest in line for line in error["problems"]) for digest in wanted)
    assert stored == ""


def with_empty_registry(road: Scenario) -> None:
    """A site of one host whose registry answers, with the site's certificate, and holds nothing."""
    node, jump = road.lab.node("n1"), road.lab.node("jump")
    node.run(
        f"mkdir -p {EMPTY_REGISTRY} &&"
        f" sed -e 's|rootdirectory: .*|rootdirectory: {EMPTY_REGISTRY}|'"
        f" -e 's|addr: .*|addr: {node.address}:{EMPTY_REGISTRY_PORT}|'"
        " /etc/perimeter/registry/config.yml > /run/empty-registry.yml &&"
        " systemd-run --quiet --collect --unit empty-registry"
        " /opt/perimeter/registry/registry serve /run/empty-registry.yml"
    )
    ca = node.run(["cat", "/etc/perimeter/registry/ca.crt"]).stdout
    jump.run(["mkdir", "-p", str(Path(OTHER_SITE).parent)])
    jump.run(["sh", "-c", "cat > /srv/other/ca.crt"], input=ca)
    road.jump(
        f"perimeter-install init --site {OTHER_SITE} --name other --ssh-user admin"
        f" --ssh-key /root/.ssh/id_ed25519 --no-dns --yes"
        f" --host n3={road.lab.node('n3').address}:control_plane,worker"
        f" --registry-url https://{node.address}:{EMPTY_REGISTRY_PORT}"
        " --registry-ca /srv/other/ca.crt"
    )


def test_a_blob_that_one_replica_lost_is_named_and_nothing_is_sent(delta: Delta) -> None:
    blob = max(delta.base["blobs"], key=lambda one: int(one["size_bytes"]))
    digest = blob["digest"].removeprefix("sha256:")
    place = f"{REGISTRY_BLOBS}/{digest[:2]}/{digest}"
    node = delta.road.lab.node("n2")
    node.run(f"mv {place} /root/lost-blob")
    try:
        found = delta.base_findings(status=1)
        error = delta.install_json("load", 6)["error"]
    finally:
        node.run(f"mv /root/lost-blob {place}")
    (wrong,) = [each for each in found if each["severity"] == "error"]
    assert wrong["host"] == "n2" and wrong["what"].startswith(f"lacks {blob['digest']}, ")
    assert all(item in wrong["what"] for item in blob["items"])
    assert "bring the whole release" in wrong["how"]
    (problem,) = error["problems"]
    assert problem.startswith(f"not on n2: {blob['digest']}, ")


def test_load_sends_what_is_new_from_the_volumes_and_then_nothing(delta: Delta) -> None:
    done = delta.install("load")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr and "\r" not in done.stderr  # plain lines, no terminal
    again = delta.install_json("load")
    assert again["pushed_blobs"] == 0 and not again["changed"] and again["complete"]
    assert all(replica["bytes_sent"] == 0 for replica in again["replicas"])


def test_apply_from_the_volumes_lets_the_nodes_pull_the_new_image(delta: Delta) -> None:
    done = delta.install("apply", "--step", "containerd", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["changed"] > 0
    node = delta.road.lab.node("n3")
    crictl = "crictl --runtime-endpoint unix:///run/containerd/containerd.sock"
    node.run(f"{crictl} pull {IMAGE} && {crictl} rmi {IMAGE}", timeout_s=120)


def test_check_passes_from_the_volumes_and_asked_for_the_base(delta: Delta) -> None:
    report = delta.install_json("check")
    assert report["failed"] == 0
    (base,) = [one for one in report["checks"] if one["name"] == "images/base"]
    assert base["outcome"] == "passed" and base["evidence"][1:] == [
        "n1 holds them",
        "n2 holds them",
    ]
