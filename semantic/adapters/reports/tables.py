"""The data table of a report: rows of one kind stand in one table."""

from collections.abc import Sequence

from attrs import frozen

from semantic.domain.experiments import DataRow


@frozen
class DataTable:
    """Rows whose columns fit one another. ``columns`` are in the order they first appear."""

    columns: tuple[str, ...]
    rows: tuple[DataRow, ...]


def tables_of(rows: Sequence[DataRow]) -> tuple[DataTable, ...]:
    """A row joins the first table that has all its columns or has none beyond them; else it begins another."""
    kinds: list[tuple[list[str], list[DataRow]]] = []
    for row in rows:
        names = set(row.cells)
        for columns, members in kinds:
            if names <= set(columns) or names >= set(columns):
                columns.extend(name for name in row.cells if name not in columns)
                members.append(row)
                break
        else:
            kinds.append((list(row.cells), [row]))
    return tuple(DataTable(tuple(columns), tuple(members)) for columns, members in kinds)
