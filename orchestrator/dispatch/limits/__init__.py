"""Deadline and budget of a run: reserved before each call, and never exceeded."""
