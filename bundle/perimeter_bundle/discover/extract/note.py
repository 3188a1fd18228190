"""One way from a string in a place to a finding; every extractor ends here."""

from __future__ import annotations

from collections.abc import Sequence

from perimeter_bundle.discover.findings import Findings, Pending
from perimeter_bundle.discover.judge import judge_into
from perimeter_bundle.discover.placeholders import has_placeholder, neutral
from perimeter_bundle.discover.shapes import is_unmistakable, without_scheme
from perimeter_bundle.discover.values import Place
from perimeter_bundle.discover.words import Position

MAX_WRITTEN = 1024


def note(
    findings: Findings,
    text: str,
    promise: Position,
    place: Place,
    rule: str,
    *,
    written: str | None = None,
    local: Sequence[tuple[str, str]] = (),
    name: str = "",
) -> bool:
    """Judges ``text``, or keeps it until its placeholders can be resolved; whether it did."""
    if len(text) > MAX_WRITTEN:
        return False
    if has_placeholder(text):
        form = without_scheme(neutral(text.strip().strip("\"'")))
        is_one = promise >= Position.STRONG and "://" not in form
        if is_one or is_unmistakable(form):
            findings.pending.append(Pending(text.strip(), place, rule, tuple(local)))
            return True
        if promise < Position.STRONG:
            return False
    return judge_into(findings, text, promise, place, rule, written=written, name=name)
