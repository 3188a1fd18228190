"""perimeter-bundle why: which component, rule, object and field asked for an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from perimeter_bundle.cli.bundle_argument import refuse_missing_bundle
from perimeter_bundle.cli.options import (
    find_lock,
    lock_option,
    read_lock,
)
from perimeter_bundle.format import layout
from perimeter_bundle.format.discovery_file import (
    MAX_DISCOVERY_BYTES,
    Noted,
    Reason,
    parse_discovery,
)
from perimeter_bundle.format.files import read_file
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.review.why import Answer, ChartAnswer, explain, explain_charts
from perimeter_bundle.terminal.options import Output, common_options


@click.command()
@click.argument("image")
@lock_option("The lock to look in.")
@click.option(
    "--bundle",
    "bundle_path",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Look in this bundle: its lock, and where each image was found.",
)
@common_options
def why(output: Output, image: str, lock_path: Path | None, bundle_path: Path | None) -> None:
    """Tells why an image is carried: component, rule, object and field.

    IMAGE is a reference, the end of one (proxyv2, istio-release/proxyv2:1.29.0), a glob, or a
    digest; or the name of a chart that lies in another chart. A lock knows the components and the
    reason; a bundle knows every place, and what was left out and why.

    \b
    Examples:
      perimeter-bundle why proxyv2
      perimeter-bundle why '*kserve*' --lock site/images.lock
      perimeter-bundle why sha256:9f2c1b… --bundle /srv/bundles/2026.11 --json
    """
    if bundle_path is not None and lock_path is not None:
        raise InputError("bad-option", "give --lock or --bundle, not both")
    noted: Sequence[Noted] = ()
    if bundle_path is None:
        lock = Lock.parse(read_lock(find_lock(lock_path), "RELEASE"))
    else:
        refuse_missing_bundle(bundle_path)
        lock = Lock.parse(read_lock(bundle_path / layout.LOCK, "RELEASE"))
        noted = _noted(bundle_path)
    charts = explain_charts(image, lock)
    try:
        answers = explain(image, lock, noted)
    except InputError:
        if not charts:
            raise
        answers = ()
    value = {
        "release": lock.release,
        "images": [answer.to_dict() for answer in answers],
        "charts": [answer.to_dict() for answer in charts],
    }
    texts = [*map(_text, answers), *map(_chart_text, charts)]
    output.result(value, "\n\n".join(texts))


def _noted(bundle: Path) -> Sequence[Noted]:
    """What discovery wrote down; nothing in bundles that were made before it did."""
    path = bundle / layout.DISCOVERY
    if not path.exists():
        return ()
    return parse_discovery(read_file(path, MAX_DISCOVERY_BYTES)).images


def _text(answer: Answer) -> str:
    lines = [str(answer.image)]
    if answer.locked is None:
        lines += [f"  left out by {rule}: {reason}" for rule, reason in answer.excluded]
        lines += [] if answer.excluded else ["  not in the lock"]
    else:
        lines.append(f"  {answer.digest or 'no digest yet'}")
        lines.append(f"  needed by {', '.join(answer.locked.components)}")
        if not answer.reasons:
            lines += [f"  {text}" for text in answer.locked.why]
    lines += [line for reason in answer.reasons for line in _reason(reason)]
    if answer.built is not None:
        base = f" on {answer.built.base}" if answer.built.base else ""
        lines.append(f"  compiled with {answer.built.toolchain}{base}; carried with it:")
        lines += [f"      {file.reference}  {file.url}" for file in answer.made]
    return "\n".join(lines)


def _chart_text(answer: ChartAnswer) -> str:
    one = answer.dependency
    lines = [
        f"chart {one.name} {one.version}, {one.place} in chart {answer.chart.name}",
        f"  {one.digest} from {one.url}",
        f"  needed by {answer.chart.component}: {answer.why}",
    ]
    return "\n".join(lines)


def _reason(reason: Reason) -> list[str]:
    return [
        f"  {reason.component}: {reason.object_name} {reason.path}",
        f"      {reason.rule}: {reason.written}",
    ]
