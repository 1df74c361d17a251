"""`imagecot models`: what can be named, how large it is, and what is on disk."""

from rich.console import Console
from rich.table import Table


def models() -> None:
    """List the models that can be named, what they are, and whether they are on disk."""
    from imagecot.commands import options
    from imagecot.models import list_models

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "kind", "parameters", "on disk", "licence"):
        table.add_column(
            column,
            justify="right" if column in ("parameters", "on disk") else "left",
            no_wrap=column == "name",
        )
    for row in list_models():
        table.add_row(
            row.name,
            ", ".join(row.kinds) or "unknown",
            row.parameters or "unknown",
            _size(row.size) if row.size is not None else "no",
            row.licence or "see its page",
        )
    console = Console()
    if not console.is_terminal:
        console.width = 160  # into a pipe nothing is gained by breaking lines
    console.print(table)
    console.print(f"A verifier can also be written: {options.written()}.", markup=False, highlight=False)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
