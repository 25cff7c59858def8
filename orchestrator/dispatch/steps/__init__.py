"""Starting a run's steps: in which place, inline or queued, and again in the next one. Runs in workflows."""
