"""``python -m orchestrator.cli``: the same command, from the very interpreter that calls it."""

from orchestrator.cli.main import main

if __name__ == "__main__":
    main()
