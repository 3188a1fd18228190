"""What was found: a table on the terminal, results.json, and a picture."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.profiled import Profile
from benchmarks.rows import Row

_WORDS = {True: "yes", False: "NO", None: ""}


def print_table(rows: Sequence[Row], profiles: Mapping[str, Profile], console: Console) -> None:
    """The rows for a person, and why some fall short."""
    table = Table(title="perimeter beside the best of crane, skopeo, regctl and oras")
    for head, side in (
        *(("what", "left"), ("ours", "right"), ("best peer", "right"), ("", "left")),
        *(("ratio", "right"), ("goal", "left"), ("holds", "left"), ("note", "left")),
    ):
        table.add_column(head, justify="right" if side == "right" else "left")
    for row in rows:
        style = "red" if row.holds is False else ""
        table.add_row(*_cells(row), style=style)
    console.print(table)
    for task, found in profiles.items():
        console.print(f"{task} falls short; where its {found.cpu_s:.2f} CPU-s go:")
        for share, where in found.parts:
            console.print(f"  {share:4.0%}  {where}", highlight=False, markup=False)
    console.print(summary(rows))


def summary(rows: Sequence[Row]) -> str:
    """How many goals are met."""
    asked = [row for row in rows if row.holds is not None]
    return f"{sum(row.holds is True for row in asked)} of {len(asked)} goals hold"


def _cells(row: Row) -> tuple[str, ...]:
    best = f"{_figure(row.best_peer)} {row.unit}" if row.best_peer is not None else ""
    return (
        row.name,
        f"{_figure(row.ours)} {row.unit}",
        best,
        row.peer,
        f"{row.ratio:.2f}" if row.ratio is not None else "",
        row.goal,
        _WORDS[row.holds],
        row.note,
    )


def markdown(rows: Sequence[Row], profiles: Mapping[str, Profile], about: str) -> str:
    """The same for the docs, below a sentence that says which run it was."""
    lines = ["| what | ours | best peer | which | ratio | goal | holds | note |"]
    lines.append("|---|--:|--:|---|--:|---|---|---|")
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    lines = [about, "", *lines, "", f"{summary(rows)}."]
    for task, found in profiles.items():
        lines += ["", f"**{task}** falls short; where its {found.cpu_s:.2f} CPU-s go:", ""]
        lines += [f"- {share:.0%} `{where.replace('`', chr(39))}`" for share, where in found.parts]
    return "\n".join(lines) + "\n"


def write_results(path: Path, rows: Sequence[Row], more: Mapping[str, object]) -> None:
    """results.json: the rows and everything needed to judge them."""
    document = {
        "format": "perimeter-benchmark/1",
        "rows": [row.to_dict() for row in rows],
        "python": platform.python_version(),
        "kernel": platform.release(),
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def picture(rows: Sequence[Row], title: str) -> str:
    """A bar for each ratio, as SVG; the line at 1 is the best peer, or what is asked for."""
    shown = [row for row in rows if row.ratio is not None]
    width, left, height = 900, 330, 24
    top, scale = 62, 110.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{top + height * len(shown) + 20}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="16" y="24" font-size="16" font-weight="bold">{_plain(title)}</text>',
        '<text x="16" y="44" fill="#555">ratio: more is better; at 1 it equals the best peer, '
        "what is possible, or the limit asked for</text>",
    ]
    for turn, row in enumerate(shown):
        y = top + turn * height
        ratio = row.ratio or 0.0
        bar = max(1.0, min(ratio, 4.5) * scale)
        colour = {True: "#2e7d32", False: "#c62828", None: "#546e7a"}[row.holds]
        parts += [
            f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{_plain(row.name)}</text>',
            f'<rect x="{left}" y="{y + 3}" width="{bar:.0f}" height="17" fill="{colour}"/>',
            f'<text x="{left + bar + 6:.0f}" y="{y + 16}">{ratio:.2f} '
            f'<tspan fill="#555">{_plain(row.peer)}</tspan></text>',
        ]
    x, end = left + scale, top + height * len(shown)
    parts.append(f'<path d="M{x} {top}V{end}" stroke="#000" stroke-dasharray="3 3"/>')
    return "\n".join([*parts, "</svg>", ""])


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
