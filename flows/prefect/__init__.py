"""Prefect flows over the stages of a run."""
