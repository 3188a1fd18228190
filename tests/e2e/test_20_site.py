"""On the closed side: from a carried folder to a running, checked site without a default route."""

from __future__ import annotations

import json
import time

import pytest
from tests.lab.nodes import Node, Result
from tests.lab.scenario import BUNDLE, RELEASE, SITE, TRUST, Scenario

pytestmark = pytest.mark.lab

STATE = "/srv/site/.perimeter"
CHANGED_SINCE_MARK = (
    "find /etc /usr/local /opt /var/lib -newer /root/mark -type f | "
    "grep -v -E '^/var/lib/(systemd|sudo|private)/' || true"
)
FLIP = """
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2]))
    byte = file.read(1)
    file.seek(int(sys.argv[2]))
    file.write(bytes([byte[0] ^ 1]))
"""


def flip(road: Scenario, path: str, offset: int = 20) -> None:
    """Change one bit of a file of the carried bundle; a second call changes it back."""
    road.lab.node("jump").run(["python3", "-c", FLIP, f"{BUNDLE}/{path}", str(offset)])


def a_file(road: Scenario, pattern: str) -> str:
    """The first file of the bundle that matches, relative to it."""
    found = road.lab.node("jump").run(f"cd {BUNDLE} && ls -d {pattern} | sed -n 1p").stdout.strip()
    assert found, pattern
    return found


def held_blobs(node: Node) -> int:
    """How many blobs the registry of this host stores."""
    found = "find /var/lib/perimeter/registry -path '*/blobs/sha256/*/data' 2>/dev/null | wc -l"
    return int(node.run(["sh", "-c", found]).stdout)


def apply_with(road: Scenario, values: str, *arguments: str) -> Result:
    """``apply --json`` with values in site.yaml, which stays as it is."""
    other = "/srv/site/with-values.yaml"
    road.jump(f"(cat {SITE}; echo 'values: {{{values}}}') > {other}")
    words = ["perimeter-install", "apply", "--json", "--site", other, "--bundle", BUNDLE]
    return road.lab.node("jump").run([*words, *arguments], check=False, timeout_s=600)


def test_bootstrap_refuses_before_verify_passed(carried: Scenario) -> None:
    done = carried.jump(f"sh {BUNDLE}/bootstrap.sh", check=False)
    assert done.returncode != 0
    assert "verify.sh" in done.stdout + done.stderr


def test_jump_host_has_nothing_but_python_openssl_and_ssh(carried: Scenario) -> None:
    carried.jump("! command -v pip pip3 ansible perimeter-install curl-config docker")
    carried.jump("! python3 -c 'import ensurepip' 2>/dev/null")


@pytest.mark.parametrize(
    "pattern",
    ["blobs/sha256/*", "manifest/bundle.json", "manifest/images.lock", "manifest/rendered/*/*",
     "content/roles/*/tasks/main.yml", "content/wheelhouse/*.whl", "index.json", "SHA256SUMS",
     "verify.sh", "bootstrap.sh"],
)  # fmt: skip
def test_verify_script_notices_one_flipped_byte(carried: Scenario, pattern: str) -> None:
    path = a_file(carried, pattern)
    # verify.sh itself is read by the shell: only its last byte may change without breaking it
    offset = 20 if pattern != "verify.sh" else 3
    flip(carried, path, offset)
    done = carried.verify_script(check=False)
    flip(carried, path, offset)
    assert done.returncode != 0


def test_verify_script_passes_with_openssl_and_sha256sum(carried: Scenario) -> None:
    carried.verify_script()


def test_verify_script_notices_an_extra_and_a_missing_file(carried: Scenario) -> None:
    carried.jump(f"touch {BUNDLE}/content/extra")
    assert carried.verify_script(check=False).returncode != 0
    carried.jump(f"rm {BUNDLE}/content/extra; mv {BUNDLE}/VERIFY.md /tmp/")
    assert carried.verify_script(check=False).returncode != 0
    carried.jump(f"mv /tmp/VERIFY.md {BUNDLE}/")


def test_installer_comes_from_the_wheelhouse(bootstrapped: Scenario) -> None:
    bootstrapped.jump("perimeter-install --help && perimeter-install --version")


def test_installer_names_the_file_with_a_flipped_byte(described: Scenario) -> None:
    path = a_file(described, "content/roles/*/tasks/main.yml")
    flip(described, path)
    done = described.install("verify", check=False)
    flip(described, path)
    assert done.returncode == 4
    assert path in done.stderr


def test_installer_refuses_an_empty_trust_folder(described: Scenario) -> None:
    done = described.install("verify", "--trust", "/srv/empty-trust", check=False)
    assert done.returncode == 5
    described.jump("mkdir -p /srv/empty-trust")
    done = described.install("verify", "--trust", "/srv/empty-trust", check=False)
    assert done.returncode == 5


def test_installer_accepts_the_bundle(described: Scenario) -> None:
    described.install("verify")


def test_two_hosts_of_one_address_are_refused_with_the_line(described: Scenario) -> None:
    address = described.lab.node("n1").address
    other = described.lab.node("n2").address
    described.jump(f"sed 's/{other}/{address}/' {SITE} > /srv/site/twice.yaml")
    done = described.jump(
        f"perimeter-install preflight --site /srv/site/twice.yaml --bundle {BUNDLE}", check=False
    )
    assert done.returncode == 2
    assert address in done.stderr
    assert "line" in done.stderr or "twice.yaml:" in done.stderr


def test_preflight_finds_a_fresh_site_ready(described: Scenario) -> None:
    findings = described.install_json("preflight")["findings"]
    checks = {finding["check"] for finding in findings}
    assert not [finding for finding in findings if finding["severity"] == "error"]
    assert any("default" in check and "route" in check for check in checks)


def test_preflight_names_a_host_that_answers_nothing(described: Scenario) -> None:
    node = described.lab.node("n3")
    node.pause()
    try:
        done = described.install("preflight", "--json", check=False)
    finally:
        node.resume()
    assert done.returncode == 1
    bad = [f for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"]
    assert {finding["host"] for finding in bad} == {"n3"}


def test_preflight_refuses_a_changed_host_key(described: Scenario) -> None:
    node = described.lab.node("n2")
    node.run(
        "mkdir /root/keys && cp -p /etc/ssh/ssh_host_* /root/keys/ && rm /etc/ssh/ssh_host_* && "
        "ssh-keygen -A && systemctl restart ssh"
    )
    try:
        done = described.install("preflight", "--json", check=False)
    finally:
        node.run("cp -p /root/keys/* /etc/ssh/ && rm -r /root/keys && systemctl restart ssh")
    assert done.returncode == 1
    bad = [f for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"]
    assert {finding["host"] for finding in bad} == {"n2"}
    assert "key" in json.dumps(bad)


def test_preflight_finds_the_leftovers_of_another_cluster(described: Scenario) -> None:
    node = described.lab.node("n1")
    node.run("mkdir -p /etc/kubernetes/manifests && touch /etc/kubernetes/manifests/etcd.yaml")
    try:
        done = described.install("preflight", "--json", check=False)
    finally:
        node.run("rm -r /etc/kubernetes")
    assert done.returncode == 1
    assert "n1" in json.dumps([f for f in json.loads(done.stdout)["findings"]
                               if f["severity"] == "error"])  # fmt: skip


def test_load_asks_the_discs_of_the_registries_and_refuses_before_the_first_byte(
    described: Scenario,
) -> None:
    nodes = [described.lab.node(name) for name in described.registries]
    for node in nodes:
        assert node.fill_disc("/", keep_free_bytes=300 << 20) > 1 << 30
    try:
        done = described.install("load", "--json", check=False)
    finally:
        for node in nodes:
            node.free_disc()
    assert done.returncode == 6, done.stdout + done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "registry-full"
    assert "nothing was sent" in error["message"] and "MiB" in error["context"]["free"]
    for node, problem in zip(nodes, error["problems"], strict=True):
        assert problem.startswith(f"no room on {node.name} for what is missing there")
        assert held_blobs(node) == 0


def test_load_goes_on_after_sigkill(described: Scenario) -> None:
    jump = described.lab.node("jump")
    jump.run(
        f"nohup setsid perimeter-install load --site {SITE} --bundle {BUNDLE} "
        ">/srv/killed.log 2>&1 & echo $! >/srv/killed.pid"
    )
    for _ in range(900):
        if held_blobs(described.lab.node("n1")) >= 8:
            break
        time.sleep(0.1)
    jump.run("kill -9 $(cat /srv/killed.pid)")
    first = described.install_json("load")
    assert first["skipped_blobs"] > 0
    again = described.install_json("load")
    assert again["pushed_blobs"] == 0


def test_check_mode_before_the_first_install_changes_nothing(loaded: Scenario) -> None:
    node = loaded.lab.node("n3")
    node.run("touch /root/mark && sleep 1")
    loaded.install("apply", "--check")
    assert node.run(CHANGED_SINCE_MARK).stdout == ""


def test_a_value_that_needs_an_image_the_bundle_lacks_is_refused_before_anything_changes(
    loaded: Scenario,
) -> None:
    node = loaded.lab.node("n3")
    node.run("touch /root/mark && sleep 1")
    done = apply_with(loaded, "minio: {image: {repository: quay.io/minio/other}}")
    assert done.returncode == 4
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "image-not-in-bundle"
    assert "spec.template.spec.containers[0].image" in error["problems"][0]
    assert "the bundle does not hold quay.io/minio/other:" in error["problems"][0]
    assert node.run(CHANGED_SINCE_MARK).stdout == ""
    assert loaded.jump(f"ls {STATE}/journal.jsonl", check=False).returncode != 0


def test_a_value_for_a_chart_that_is_not_there_is_refused_with_those_that_are(
    loaded: Scenario,
) -> None:
    done = apply_with(loaded, "milvus: {}")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["hint"] == "charts that take values: flannel, minio"


def test_apply_goes_on_after_sigkill(loaded: Scenario) -> None:
    jump = loaded.lab.node("jump")
    jump.run(
        f"nohup setsid perimeter-install apply --site {SITE} --bundle {BUNDLE} "
        ">/srv/apply.log 2>&1 & echo $! >/srv/apply.pid"
    )
    for _ in range(3000):
        if (
            loaded.lab.node("n1").run("test -e /etc/kubernetes/admin.conf", check=False).returncode
            == 0
        ):
            break
        time.sleep(0.1)
    jump.run("kill -9 $(cat /srv/apply.pid)")
    report = loaded.install_json("apply")
    states = {step["name"]: step["state"] for step in report["steps"]}
    assert states["node"] == states["containerd"] == "skipped"
    assert states["kubernetes"] == "done"


def test_second_apply_changes_nothing(installed: Scenario) -> None:
    report = installed.install_json("apply")
    assert report["changed"] == 0


def test_objects_as_they_were_meant_lie_in_the_state_folder(installed: Scenario) -> None:
    found = installed.jump(f"cd {STATE}/rendered && ls */*").stdout.split()
    assert found == [
        "flannel/flannel.yaml",
        "local-path-provisioner/local-path-storage.yaml",
        "minio/minio.yaml",
    ]
    assert installed.jump(f"stat -c %a {STATE}/rendered/minio/minio.yaml").stdout.strip() == "600"


def test_values_of_the_site_reach_the_chart_and_are_no_templates(installed: Scenario) -> None:
    values = 'minio: {podAnnotations: {note: "{{ perimeter_release }}"}}'
    done = apply_with(installed, values, "--check", "--step", "minio")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["changed"] == 1
    log = installed.jump(f"ls -t {STATE}/logs/*-minio.log | head -1 | xargs cat").stdout
    assert "{{ perimeter_release }}" in log


def test_check_passes_and_writes_every_report(installed: Scenario) -> None:
    report = installed.install_json("check")
    assert report["failed"] == 0
    assert report["passed"] > 10
    files = installed.lab.node("jump").run("ls /srv/site/reports").stdout
    for name in ("report.html", "report.json", "junit.xml"):
        assert name in files


def test_status_tells_what_is_installed(installed: Scenario) -> None:
    status = installed.install_json("status", bundle=False)
    assert status["release"] == RELEASE
    assert {node["name"] for node in status["nodes"]} == {"n1", "n2", "n3"}


def test_every_image_came_from_the_registries_of_the_site(installed: Scenario) -> None:
    lock = installed.lab.node("builder").run(["cat", "/srv/images.lock"]).stdout
    for name in ("n1", "n2", "n3"):
        images = installed.lab.node(name).run(["crictl", "images", "-o", "json"]).stdout
        for image in json.loads(images)["images"]:
            for digest in image["repoDigests"]:
                assert digest.partition("@")[2] in lock, digest
    escapes = installed.lab.closed_side_escapes()
    assert escapes["attempts"] == [] and escapes["packets"]["watched"] > 1000, escapes


def test_no_secret_stands_in_a_log_or_a_file(installed: Scenario) -> None:
    password = installed.kubectl(
        "-n", "minio", "get", "secret", "-o", "jsonpath={.items[*].data.rootPassword}"
    ).stdout.split()[0]  # fmt: skip
    jump = installed.lab.node("jump")
    assert password
    found = jump.run(
        f'p=$(echo {password} | base64 -d); grep -rlF -- "$p" {STATE} /srv/site /tmp /run /dev/shm '
        "/var/log /root 2>/dev/null || true"
    ).stdout
    assert found == ""
    assert (
        jump.run("ls -A /dev/shm /run/perimeter* 2>/dev/null | grep perimeter || true").stdout == ""
    )


def test_node_that_reboots_comes_back_by_itself(installed: Scenario) -> None:
    installed.lab.node("n3").reboot()
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    for _ in range(120):
        if installed.kubectl("get", "node", "n3", "-o", ready, check=False).stdout == "True":
            break
        time.sleep(2)
    installed.kubectl("-n", "kube-flannel", "rollout", "status", "daemonset", "--timeout=120s")
    installed.install("check")


def test_minio_serves_with_one_node_switched_off(installed: Scenario) -> None:
    installed.lab.node("n3").kill()
    try:
        done = installed.install("check", "--node-off", "n3", "--json", check=False)
        report = json.loads(done.stdout)
        minio = [test for test in report["checks"] if "minio" in test["name"]]
        assert minio and all(test["outcome"] == "passed" for test in minio), minio
    finally:
        installed.lab.node("n3").start()


def test_trust_folder_is_not_touched(installed: Scenario) -> None:
    assert installed.lab.node("jump").run(["ls", TRUST]).stdout.split() == ["builder.pub"]
