"""Fuzzing: whatever arrives, there is a value or a typed error; no crash and no hang."""
