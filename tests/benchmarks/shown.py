"""What a benchmark prints and writes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

CONSOLE = Console(highlight=False, width=100)


def figures_table(*headings: str, figures: Iterable[str], **options: Any) -> Table:
    """A table whose first columns have words; those of figures stand on the right."""
    table = Table(box=box.SIMPLE, pad_edge=False, **options)
    for heading in headings:
        table.add_column(heading)
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def write(file: Path, document: object) -> None:
    """Write all figures as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
