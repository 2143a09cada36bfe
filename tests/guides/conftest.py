"""The files of this folder are material of `tests/test_guides.py`, not tests."""

collect_ignore_glob = ["*.py"]
