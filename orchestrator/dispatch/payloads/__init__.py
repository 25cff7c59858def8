"""What Temporal carries: how values are written, how large they may be, and what is unreadable."""
