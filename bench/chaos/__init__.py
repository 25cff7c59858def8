"""Breaks a real fleet while it works, and counts what became of the runs: ``make chaos``."""
