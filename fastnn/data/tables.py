"""The former home of `TableEncoder` and `guess_task`, for code that still imports them from here."""

from fastnn.data.table_encoder import METADATA_KEY, TableEncoder, guess_task

__all__ = ["METADATA_KEY", "TableEncoder", "guess_task"]
