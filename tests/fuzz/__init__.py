"""Fuzzing in-process: damaged inputs of every kind that people and machines hand in, thousands per target.

`python -m tests.fuzz` prints the table of `docs/reliability.md`; `pytest -m fuzz` runs a smaller number as a test.
"""
