"""Does the registry still hold what a delta left out? Without it no node could pull again."""

from __future__ import annotations

from pathlib import Path

from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.terminal.text import human_bytes
from perimeter_installer.check.expected import Expected
from perimeter_installer.check.recorder import CheckFailed, CheckSkipped, Evidence
from perimeter_installer.load.base import MEND, by_item, told
from perimeter_installer.load.endpoints import endpoints
from perimeter_installer.load.load import ask_for_base
from perimeter_installer.run.secrets import open_secrets


def check_base(bundle: VerifiedBundle, expected: Expected, password_file: Path | None) -> Evidence:
    """Asks every replica that is on for every blob of the base; names each that is missing."""
    base = bundle.base
    if base is None:
        raise CheckSkipped("the bundle is whole")
    secrets = open_secrets(expected.site, password_file=password_file, check=True)
    replicas = tuple(
        one for one in endpoints(expected.site, secrets) if one.name not in expected.nodes_off
    )
    wrong = []
    for answer in ask_for_base(bundle, replicas):
        if answer.error:
            wrong.append(answer.error.message)
        wrong += [f"not on {answer.replica}: {told(blob)}" for blob in by_item(answer.missing)]
    if wrong:
        raise CheckFailed(*wrong, hint=MEND)
    count = f"{len(base.blobs)} blobs, {human_bytes(base.total_bytes)}, of a delta on {base.about}"
    return [count, *(f"{one.name} holds them" for one in replicas)]
