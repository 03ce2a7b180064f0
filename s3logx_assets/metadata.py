"""Metadata that people read in the Dagster UI: column schemas and small tables. Kept small, and free of anything that
a client of the archive controls but the validated key."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import dagster as dg
import pyarrow as pa


@cache
def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """A table's columns, for the UI's own panel."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(field.name, str(field.type), constraints=dg.TableColumnConstraints(nullable=field.nullable))
            for field in schema
        ]
    )


def table_metadata(table: pa.Table, uri: str) -> dict[str, Any]:
    """What is said of every stored table: rows, columns, place."""
    return {
        "dagster/partition_row_count": table.num_rows,
        "dagster/column_schema": column_schema(table.schema),
        "dagster/uri": uri,
    }


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A short Markdown table; the cells' own marks are escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_escaped(str(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, "\\" + mark)
    return text
