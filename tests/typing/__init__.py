"""Types of the public names, checked by pyright and not run."""
