"""What people type: `launch.py` and `antioversmooth COMMAND`."""

from antioversmooth.cli.main import COMMANDS, INCOMPLETE, main

__all__ = ["COMMANDS", "INCOMPLETE", "main"]
