"""Spans and metrics of runs and steps, where telemetry is on."""
