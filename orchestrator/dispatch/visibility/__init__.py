"""What Temporal's UI and its lists show of a run: texts and search attributes."""
