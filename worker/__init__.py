"""The process that serves a region with the agents that ship."""
