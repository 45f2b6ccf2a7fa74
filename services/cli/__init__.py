"""The subcommands of ``fleet``, one module each; ``pyproject.toml`` names them as entry points."""
