"""Recall and precision against the images of Kubeflow's core, found by hand."""

from __future__ import annotations

import time
from functools import cache

import pytest

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.discover.rules import NO_RULES, NotImageRule, Rules
from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.terminal.text import text_table
from tests.discovery.upstream import (
    WHOLE,
    read_rendered,
    rendered_files,
    truth_by_component,
)

# an image of an experimental gateway class that istiod itself would make up
_ISTIO = Rules(
    not_images=(
        NotImageRule(
            text="*gentgateway*",
            object="ConfigMap/istio-system/istio-sidecar-injector",
            reason="template of the agentgateway class, which these values do not switch on",
        ),
    )
)
RULES = {"istio-install": _ISTIO, "istio-install-ambient": _ISTIO, WHOLE: _ISTIO}


@cache
def found_in(name: str, rules: Rules = NO_RULES) -> Discovery:
    return discover([(name, read_rendered(rendered_files()[name]))], rules)


def references(found: Discovery) -> set[str]:
    return {str(reference) for reference in found.references()}


def test_every_image_of_the_core_is_found_and_no_false_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth = truth_by_component()
    truth[WHOLE] = set().union(*truth.values())
    assert len(truth[WHOLE]) == 105
    rows, wrong = [], []
    for name, wanted in truth.items():
        without = found_in(name)
        got = references(found_in(name, RULES.get(name, NO_RULES)))
        right = got & wanted
        alone = references(without)
        rows.append(
            (
                name,
                f"{len(right)}/{len(wanted)}",
                f"{len(right)}/{len(got)}",
                f"{len(alone & wanted)}/{len(wanted)}",
                f"{len(alone & wanted)}/{len(alone)}",
            )
        )
        wrong += [f"{name}: not found: {image}" for image in sorted(wanted - got)]
        wrong += [f"{name}: no image: {image}" for image in sorted(got - wanted)]
    headers = ["component", "recall", "precision", "recall, no rules", "precision, no rules"]
    with capsys.disabled():
        print("\n" + text_table(headers, rows))
    assert wrong == []


def test_what_has_no_truth_list_leaves_nothing_unexplained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth = truth_by_component()
    rows, unexplained = [], []
    for name in rendered_files():
        found = found_in(name, RULES.get(name, NO_RULES))
        if name not in truth:
            rows.append((name, str(len(found.images)), str(len(found.unclassified))))
        unexplained += [str(one) for one in found.unclassified]
        assert found.unused_rules == ()
    with capsys.disabled():
        print("\n" + text_table(["without truth list", "images", "unclassified"], rows))
    assert unexplained == []


def test_all_of_kubeflow_takes_seconds() -> None:
    data = read_rendered(rendered_files()[WHOLE])
    started = time.process_time()
    discover([(WHOLE, data)])
    assert time.process_time() - started < 30  # 2 to 3 s of a processor; slow machines too


@pytest.mark.parametrize(
    ("name", "image", "rule", "path"),
    [
        (
            "istio-install",
            "gcr.io/istio-release/proxyv2:1.29.0",
            "split-fields",
            "data.values -> global.proxy.image",
        ),
        (
            "istio-install",
            "docker.io/library/busybox:1.28",
            "assignment",
            "data.config -> templates.grpc-simple line 7",
        ),
        (
            "kserve",
            "docker.io/kserve/art-explainer:latest",
            "split-fields",
            "data.explainers -> art.image",
        ),
        (
            "pipelines",
            "ghcr.io/kubeflow/kfp-frontend:2.16.0",
            "python-source",
            "data[sync.py] line 289",
        ),
        (
            "pipelines",
            "quay.io/argoproj/argoexec:v3.7.3",
            "argument",
            "spec.template.spec.containers[0].args[3]",
        ),
        (
            "rendered-charts/gpu-operator",
            "nvcr.io/nvidia/driver:595.91.07",
            "split-fields",
            "spec.driver.image",
        ),
    ],
)
def test_a_hidden_image_is_found_with_rule_and_place(
    name: str, image: str, rule: str, path: str
) -> None:
    found = {str(one.reference): one.evidence for one in found_in(name).images}
    assert (rule, path) in [(one.rule, one.place.path) for one in found[image]]
