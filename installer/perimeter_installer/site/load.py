"""site.yaml to a ``Site``: every problem at once, each with its line."""

from __future__ import annotations

import copy
import difflib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from perimeter_bundle.model.errors import InputError
from perimeter_installer.site import model
from perimeter_installer.site.rules import check_rules, minio_size
from perimeter_installer.site.schema import (
    HostPart,
    SiteFile,
    parse_address,
    parse_endpoint,
    parse_network,
)
from perimeter_installer.site.yaml_source import (
    PathKey,
    Problem,
    Value,
    YamlSource,
    dotted,
    parse_yaml,
    read_yaml,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DOCS_HINT = "every key is explained in docs/site.md; perimeter-install init writes an example"


def load(path: Path) -> model.Site:
    """The site that ``path`` describes.

    Raises InputError[no-site-file] when it cannot be read and InputError[bad-site] with one
    problem per line otherwise: syntax, unknown keys, wrong values, rules, files that are not there.
    """
    path = path.absolute()
    return judge_site(read_yaml(path), path)


def parse_site(text: str, path: Path) -> model.Site:
    """As ``load``, for text that is to be written to ``path``."""
    path = path.absolute()
    return judge_site(parse_yaml(text.encode(), str(path)), path)


def judge_site(source: YamlSource, path: Path) -> model.Site:
    """The site in ``source``; raises InputError[bad-site] with every problem."""
    problems = list(source.problems)
    file, details = _validate(source.values)
    problems += [_schema_problem(detail, source) for detail in details]
    if file is None:  # unknown keys do not keep the rules from judging the rest
        unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
        file, _ = _validate(_without(source.values, unknown))
    if file is not None:
        problems += check_rules(file, source)
        problems += _file_problems(file, source, path.parent)
    if problems or file is None:
        raise InputError(
            "bad-site",
            f"{path} cannot be used: {_count(len(problems))}",
            problems=[str(problem) for problem in sorted(set(problems))],
            hint=DOCS_HINT,
        )
    return _site(file, path)


def _validate(values: Mapping[str, Value]) -> tuple[SiteFile | None, list[ErrorDetails]]:
    try:
        return SiteFile.model_validate(values), []
    except ValidationError as error:
        return None, error.errors()


def _without(values: Mapping[str, Value], paths: Iterable[PathKey]) -> Mapping[str, Value]:
    """A copy of ``values`` that lacks what lies at ``paths``."""
    result = copy.deepcopy(dict(values))
    for path in paths:
        inner: Value = result
        for part in path[:-1]:
            inner = inner[str(part)] if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(str(path[-1]), None)
    return result


def _count(number: int) -> str:
    return "1 problem" if number == 1 else f"{number} problems"


def _site(file: SiteFile, path: Path) -> model.Site:
    folder = path.parent
    replicas, drives = minio_size(file)
    return model.Site(
        name=file.site.name,
        path=path,
        ssh=model.Ssh(
            user=file.ssh.user,
            key_file=_resolve(folder, file.ssh.key_file),
            become=file.ssh.user != "root" if file.ssh.become is None else file.ssh.become,
        ),
        hosts=tuple(
            model.Host(
                name=name,
                address=parse_address(host.address),
                groups=frozenset(host.groups),
                ssh_port=host.ssh_port,
                interface=host.interface or "",
                labels=dict(host.labels),
            )
            for name, host in file.hosts.items()
        ),
        networks=model.Networks(
            pods=parse_network(file.networks.pods),
            services=parse_network(file.networks.services),
            mtu=file.networks.mtu or 0,
        ),
        dns=model.Dns(tuple(map(parse_address, file.dns.servers)), file.dns.domain),
        endpoint=_endpoint(file),
        registry=model.Registry(
            mode=file.registry.mode,
            port=file.registry.port,
            data_dir=file.registry.data_dir,
            url=file.registry.url or "",
            ca_file=_resolve(folder, file.registry.ca_file),
        ),
        storage=model.Storage(file.storage.class_, file.storage.path),
        minio=model.Minio(file.minio.namespace, replicas, drives, file.minio.volume_size),
        ca=model.Ca(
            file.ca.mode, _resolve(folder, file.ca.cert_file), _resolve(folder, file.ca.key_file)
        ),
        gpu=model.GpuDriver(file.gpu.driver, file.gpu.precompiled),
        values=file.values,
    )


def _endpoint(file: SiteFile) -> model.Endpoint:
    if file.kubernetes.endpoint:
        host, port = parse_endpoint(file.kubernetes.endpoint)
        return model.Endpoint(host, port, external=True)
    return model.Endpoint(f"api.{file.site.name}.internal", model.API_PORT, external=False)


def _resolve(folder: Path, name: str | None) -> Path | None:
    """Names of files are meant from where site.yaml lies; ``~`` is the caller's home."""
    return None if name is None else folder / Path(name).expanduser()


def _file_problems(file: SiteFile, source: YamlSource, folder: Path) -> Iterator[Problem]:
    named = {
        ("ssh", "key_file"): file.ssh.key_file,
        ("registry", "ca_file"): file.registry.ca_file,
        ("ca", "cert_file"): file.ca.cert_file,
        ("ca", "key_file"): file.ca.key_file,
    }
    for key, name in named.items():
        path = _resolve(folder, name)
        if path is None:
            continue
        where, line = dotted(key), source.line(*key)
        if not path.is_file():
            yield Problem(line, f"{where}: there is no file {path}")
        elif not os.access(path, os.R_OK):
            yield Problem(line, f"{where}: {path} cannot be read")
        elif key[1] == "key_file" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Problem(
                line, f"{where}: others can read {path}, and ssh refuses that; chmod 600 it"
            )


def _schema_problem(detail: ErrorDetails, source: YamlSource) -> Problem:
    """One pydantic error in words for people, with the line it came from."""
    path: PathKey = tuple(part for part in detail["loc"] if part != "[key]")
    kind = detail["type"]
    where = dotted(path)
    given = _shown(detail.get("input"))
    if kind == "extra_forbidden":
        text = f"{where}: unknown key{_suggestion(path)}"
    elif kind == "missing":
        text = f"{where}: missing"
    elif kind == "value_error":
        text = f"{where}: {detail['ctx']['error']}"
    elif kind == "literal_error":
        text = f"{where}: {given} is not one of {detail['ctx']['expected']}"
    elif kind in ("string_type", "int_type", "bool_type", "list_type", "dict_type", "model_type"):
        text = f"{where}: expected {_SHAPES[kind]}, found {given}"
    else:
        text = f"{where}: {given}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
    return Problem(source.line(*path), text)


_SHAPES = {
    "string_type": "text (put it in quotes)",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
}


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "keys and values" if isinstance(value, dict) else "a list"
    return repr(value)[:100]


def _suggestion(path: PathKey) -> str:
    fields = _fields_at(path[:-1])
    close = difflib.get_close_matches(str(path[-1]), fields, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(fields)}" if fields else ""


def _fields_at(path: PathKey) -> list[str]:
    """Names of the keys that may stand at ``path``; only hosts are nested deeper than one level."""
    if not path:
        part: object = SiteFile
    elif path[0] == "hosts":
        part = HostPart
    else:
        field = SiteFile.model_fields.get(str(path[0]))
        part = field.annotation if field else None
    if not isinstance(part, type) or not issubclass(part, BaseModel):
        return []
    return [field.alias or name for name, field in part.model_fields.items()]
