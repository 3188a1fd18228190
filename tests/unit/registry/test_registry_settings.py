"""Options and environment become settings, or one error with every problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.registry.endpoints import endpoints_for
from perimeter_bundle.registry.settings import RegistrySettings, goes_past_proxy, settings_from


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        settings_from(
            environment={},
            ca_file=tmp_path / "none.pem",
            docker_config=tmp_path / "none.json",
            workers=0,
            mirrors=[
                "quay.io",
                "quay.io=http://mirror.example",
                "quay.io=https://user:very-secret@mirror.example",
                "https://quay.io=https://mirror.example",
                "quay.io=https://mirror.example/?token=1",
                "quay.io=https://mirror.example:port",
            ],
        )
    assert caught.value.code == "bad-settings"
    assert caught.value.problems == (
        f"no CA file {tmp_path}/none.pem",
        f"no docker configuration {tmp_path}/none.json",
        "0 workers; between 1 and 64 make sense",
        "mirror quay.io: it must read host=url",
        "mirror quay.io=http://mirror.example: a mirror must be https",
        "mirror quay.io=https://***@mirror.example: "
        "write the password into the docker configuration, not into the address",
        "mirror https://quay.io=https://mirror.example: "
        "what stands before = must be a host, such as quay.io",
        "mirror quay.io=https://mirror.example/?token=1: an address with ? or # cannot be a mirror",
        "mirror quay.io=https://mirror.example:port: not an address",
    )


def test_reads_proxies_as_curl_does() -> None:
    settings = settings_from(
        environment={
            "https_proxy": "http://lower:1",
            "HTTPS_PROXY": "http://upper:1",
            "HTTP_PROXY": "http://a-header-could-set-this:1",
            "NO_PROXY": "localhost",
        }
    )
    assert settings.proxies == {"https": "http://lower:1", "no": "localhost"}


@pytest.mark.parametrize(
    ("host", "no_proxy", "past"),
    [
        ("quay.io", "", False),
        ("quay.io", "*", True),
        ("quay.io", "quay.io", True),
        ("cdn.quay.io", ".quay.io, other", True),
        ("cdn.quay.io", "quay.io", True),
        ("notquay.io", "quay.io", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("127.0.0.1", "", True),
        ("localhost", "", True),
        ("::1", "", True),
    ],
)
def test_knows_which_hosts_go_past_the_proxy(host: str, no_proxy: str, past: bool) -> None:
    assert goes_past_proxy(host, no_proxy) is past


def test_finds_the_docker_configuration_where_docker_puts_it(tmp_path: Path) -> None:
    config = tmp_path / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text("{}")
    assert settings_from(environment={"HOME": str(tmp_path)}).docker_config == config
    moved = {"HOME": "/nowhere", "DOCKER_CONFIG": str(config.parent)}
    assert settings_from(environment=moved).docker_config == config
    assert settings_from(environment={"HOME": "/nowhere"}).docker_config is None


def test_helpers_get_no_variable_they_do_not_need() -> None:
    environment = {"PATH": "/bin", "AWS_PROFILE": "x", "LD_PRELOAD": "evil.so", "TOKEN": "t"}
    settings = settings_from(environment=environment)
    assert settings.helper_environment == {"PATH": "/bin", "AWS_PROFILE": "x", "LANG": "C.UTF-8"}
    assert "AWS_PROFILE" not in repr(settings)


@pytest.mark.parametrize(
    ("mirror", "base", "repository"),
    [
        ("https://m.example", "https://m.example/v2", "minio/minio"),
        ("https://m.example/v2/", "https://m.example/v2", "minio/minio"),
        ("https://m.example/proxy-quay", "https://m.example/v2", "proxy-quay/minio/minio"),
        ("https://m.example/v2/quay.io", "https://m.example/v2", "quay.io/minio/minio"),
        ("https://m.example/v2x", "https://m.example/v2", "v2x/minio/minio"),
    ],
)
def test_a_mirror_path_goes_before_the_repository(mirror: str, base: str, repository: str) -> None:
    settings = RegistrySettings(mirrors={"quay.io": (mirror,)})
    first, last = endpoints_for(ImageReference.parse("quay.io/minio/minio:x"), settings)
    assert (first.base, first.repository, first.is_mirror) == (base, repository, True)
    assert (last.base, last.repository, last.is_mirror) == (
        "https://quay.io/v2",
        "minio/minio",
        False,
    )


def test_docker_hub_answers_under_another_name() -> None:
    (endpoint,) = endpoints_for(ImageReference.parse("busybox"), RegistrySettings())
    assert endpoint.base == "https://registry-1.docker.io/v2"
    assert (endpoint.repository, endpoint.host) == ("library/busybox", "docker.io")
    assert endpoint.scope == "repository:library/busybox:pull"
