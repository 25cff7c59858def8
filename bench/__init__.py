"""Benchmarks: ``make bench BENCH=NAME`` runs one of the modules here."""
