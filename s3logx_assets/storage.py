"""Dagster's side of storage. Asset bodies write through the `private_store` and `public_store` resources, each
partition as it is done; so no IO manager ever stores anything, and the default one says so.
"""

from typing import Any

import dagster as dg


class RefusingIOManager(dg.IOManager):
    """Refuses to persist: a returned value would be pickled, readable, outside the store."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Accepts nothing but None."""
        if obj is not None:
            raise dg.DagsterInvariantViolationError(
                f"{context.step_key} returned a value; assets write through the private_store resource"
            )

    def load_input(self, context: dg.InputContext) -> Any:
        """Loads nothing."""
        raise dg.DagsterInvariantViolationError("assets read through the private_store resource")
