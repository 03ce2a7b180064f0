"""Metadata that people read in the Dagster UI: column schemas, places and small tables. Kept small, and free of anything
that a client of the archive controls but the validated key. Pictures are in `pictures`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from s3logx_assets.core.schemas import MEANINGS

_LONGEST_CELL = 100


def column_schema(schema: pa.Schema) -> Mapping[str, dg.TableSchema]:
    """Metadata of an asset's definition: the columns that each partition of it has, and what they mean. It is said once and
    not with each partition, which would be a fifth of all that Dagster keeps."""
    return {
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    field.name,
                    _type_name(field.type),
                    MEANINGS.get(field.name),
                    dg.TableColumnConstraints(nullable=field.nullable),
                )
                for field in schema
            ]
        )
    }


def table_metadata(rows: int, uri: str) -> dict[str, Any]:
    """What is said of every stored table: rows, place."""
    return {"dagster/partition_row_count": rows, "dagster/uri": uri}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A short Markdown table; the cells' own marks are escaped, and what is very long is cut."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_escaped(str(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    if len(text) > _LONGEST_CELL:
        text = text[: _LONGEST_CELL - 1] + "…"
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, "\\" + mark)
    return text


def _type_name(type_: pa.DataType) -> str:
    """The type as readers see it: a dictionary is a way to store."""
    return str(type_.value_type if pa.types.is_dictionary(type_) else type_)
