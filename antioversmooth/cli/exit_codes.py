"""Exit codes of both programs."""

OK = 0
"""All done, submitted, or confirmed."""
FAILED = 1
"""A run failed, or a committed table differs from its runs."""
USER_ERROR = 2
"""An error that the message explains and the user can fix; argparse's own code."""
INCOMPLETE = 3
"""Runs are missing or stopped, or wait for a limit on jobs."""
INTERRUPTED = 130
"""Ctrl-C: what a shell reports after SIGINT."""
CLOSED_PIPE = 141
"""Nobody reads the output any more (`... | head`): what a shell reports after SIGPIPE."""
