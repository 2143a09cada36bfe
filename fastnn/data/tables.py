"""Aliases of `TableEncoder` and `guess_task` under the name of the module that held them before."""

from fastnn.data.dataset import guess_task
from fastnn.data.table_encoder import METADATA_KEY, TableEncoder

__all__ = ["METADATA_KEY", "TableEncoder", "guess_task"]
