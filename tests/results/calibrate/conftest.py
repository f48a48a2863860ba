"""The same folders and tables as those of `evaluate`."""

from tests.results.evaluate.conftest import run, table

__all__ = ["run", "table"]
