"""Tests of Edgeward."""
