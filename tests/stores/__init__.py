"""Tests of orchestrator.stores."""
