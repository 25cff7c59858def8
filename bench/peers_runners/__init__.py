"""One program a system: it runs the five steps for whoever asks on its port.

Those of the peers run in an environment of their own and import nothing of this project but
``protocol``; ``on_temporal`` runs in the project's.
"""
