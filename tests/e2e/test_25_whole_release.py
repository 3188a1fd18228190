"""The whole default release moves: every image is pulled on a node by its original name.

Images that cannot be built in the lab are stand-ins: moved and pulled, never counted as working.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.lab.scenario import Scenario
from tests.lab.whole import RELEASE, Whole, assemble_whole, lab_catalog

from perimeter_bundle.model.reference import ImageReference

pytestmark = pytest.mark.lab

CATALOG = "/srv/catalog"
CRICTL = "crictl --runtime-endpoint unix:///run/containerd/containerd.sock"


@pytest.fixture(scope="module")
def whole() -> Whole:
    """Everything the whole release asks of upstream."""
    return assemble_whole()


@pytest.fixture(scope="module")
def moved(installed: Scenario, whole: Whole) -> Iterator[Scenario]:
    """The whole release: locked, built, signed, carried, loaded, and its registries known."""
    lab, builder = installed.lab, installed.lab.node("builder")
    lab.start_upstream(whole.folder, installed.wheels.folder)
    with tempfile.TemporaryDirectory() as folder:
        builder.run(["rm", "-rf", CATALOG])
        builder.push(lab_catalog(whole.commits, Path(folder)), CATALOG)
    road = replace(installed, release=RELEASE, catalog=CATALOG)
    road.lock()
    road.build()
    road.sign()
    road.carry()
    road.install("load")
    road.install("apply", "--step", "containerd")  # it brings registries that had no mirror yet
    yield road


@pytest.fixture(scope="module")
def images(moved: Scenario) -> dict[str, dict[str, Any]]:
    """The lock's images by reference."""
    text = moved.lab.node("builder").run(["cat", moved.lock_file]).stdout
    return {str(image["reference"]): image for image in tomllib.loads(text)["image"]}


def test_every_image_of_the_release_is_locked_with_its_reason(
    images: dict[str, dict[str, Any]],
) -> None:
    assert len(images) > 130
    assert not [reference for reference, image in images.items() if not image["digest"]]
    assert not [reference for reference, image in images.items() if not image["why"]]


def test_every_image_is_pulled_on_a_node_by_its_name_with_the_locked_digest(
    moved: Scenario, images: dict[str, dict[str, Any]], whole: Whole, record_property: Any
) -> None:
    node = moved.lab.node("n3")
    wrong = []
    for reference, image in sorted(images.items()):
        done = node.run(f"{CRICTL} pull {reference}", check=False, timeout_s=300)
        found = _digests(node.run(f"{CRICTL} inspecti {reference}", check=False).stdout)
        if done.returncode != 0 or image["digest"] not in found:
            wrong.append(f"{reference}: {done.stderr.strip()[-200:]} {found}")
        elif reference in whole.stand_ins:  # what runs on the node stays
            node.run(f"{CRICTL} rmi {reference}", check=False)
    running = _running(moved)
    compiled = {name for name, image in images.items() if image.get("origin") == "go-build"}
    report = {
        "moved": len(images) - len(wrong),
        "of": len(images),
        "compiled": len(compiled),
        "stand_ins": len(whole.stand_ins & set(images)),
        "working": len(running & set(images) - whole.stand_ins),
    }
    print(f"\nimages of release {RELEASE}: {json.dumps(report)}")
    record_property("images", report)
    assert not wrong, "\n".join(wrong)
    assert report["stand_ins"] + report["working"] <= report["moved"]
    assert compiled and compiled <= running - whole.stand_ins


def test_the_closed_side_asked_nobody_outside(moved: Scenario) -> None:
    assert moved.lab.closed_side_escapes()["attempts"] == []


def _digests(inspected: str) -> set[str]:
    try:
        status = json.loads(inspected)["status"]
    except (json.JSONDecodeError, KeyError):
        return set()
    return {name.rpartition("@")[2] for name in status.get("repoDigests", [])}


def _running(road: Scenario) -> set[str]:
    """Names of the images of pods that run."""
    text = road.kubectl(
        "get", "pods", "--all-namespaces", "--field-selector", "status.phase=Running",
        "-o", "jsonpath={.items[*].spec.containers[*].image}",
    ).stdout  # fmt: skip
    return {str(ImageReference.parse(name)) for name in text.split()}
