"""Data: readers of files, the `Dataset` they return, and the encoder of tables."""
