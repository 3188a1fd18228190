"""Puts a report's files where people and programs look for them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.model.errors import HostError
from perimeter_installer.report.html import to_html
from perimeter_installer.report.junit import to_junit
from perimeter_installer.report.model import Report

JSON_NAME = "report.json"
HTML_NAME = "report.html"
JUNIT_NAME = "junit.xml"


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a report was written."""

    json: Path
    html: Path
    junit: Path

    def to_dict(self) -> Mapping[str, str]:
        """The paths as ``--json`` prints them."""
        return {"json": str(self.json), "html": str(self.html), "junit": str(self.junit)}


def write_report(report: Report, folder: Path) -> ReportFiles:
    """Writes the three files into ``folder``, each whole or not at all; the last check stays.

    Raises HostError[cannot-write].
    """
    files = ReportFiles(folder / JSON_NAME, folder / HTML_NAME, folder / JUNIT_NAME)
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(files.json, text.encode())
        _replace(files.html, to_html(report).encode())
        _replace(files.junit, to_junit(report))
    except OSError as error:
        raise HostError(
            "cannot-write",
            f"the report was not written: {error.strerror}",
            context={"folder": folder},
            hint="make room there, or choose another folder",
        ) from error
    return files


def _replace(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
