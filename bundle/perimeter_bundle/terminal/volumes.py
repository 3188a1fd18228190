"""What both programs say about volumes that are checked alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.volumes.check import CheckedVolume, check_volume
from perimeter_bundle.format.volumes.parity import CheckedParity, check_parity, is_parity
from perimeter_bundle.format.volumes.read import volume_files
from perimeter_bundle.format.volumes.repair import repair
from perimeter_bundle.model.errors import ExitStatus, PerimeterError
from perimeter_bundle.terminal.console import print_error, stderr_console
from perimeter_bundle.terminal.options import Output

_ALL = re.compile(r".+\.[vp]\d{3}\.tar")


def verify_volumes(output: Output, paths: Sequence[Path], trust: Trust) -> ExitStatus:
    """Checks every volume at ``paths``; one that does not hold stops none of the others."""
    held: list[CheckedVolume | CheckedParity] = []
    errors: list[tuple[Path, PerimeterError]] = []
    with output.reporter() as reporter:
        for path in volume_files(paths, names=_ALL):
            try:
                held.append(
                    check_parity(path, on_event=reporter.on_event)
                    if is_parity(path)
                    else check_volume(path, trust, on_event=reporter.on_event)
                )
            except PerimeterError as error:
                errors.append((path, error))
    failed = [{"path": str(path), "error": each.to_dict()} for path, each in errors]
    output.result(
        {"held": [each.to_dict() for each in held], "failed": failed},
        "\n".join(each.to_text() for each in held),
    )
    if not errors:
        return ExitStatus.OK
    if not output.json:
        for _, each in errors:
            print_error(each, stderr_console())
    return errors[0][1].exit_status


def repair_volumes(output: Output, folder: Path, out: Path | None) -> None:
    """Rebuilds what is lost of the volumes in ``folder``."""
    with output.reporter() as reporter:
        report = repair(folder, out=out, on_event=reporter.on_event)
    output.result(report.to_dict(), report.to_text())
