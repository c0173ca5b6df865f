"""The command lines: `antioversmooth COMMAND`, and `launch.py`, which is its command `launch`.

main        parse, dispatch to a handler, map errors to exit codes
parsers     the arguments of every command (the standard library alone, so that `--help` is fast)
exit_codes  0, 1, 2, 3, 130, 141
launch      the handler of `launch`
runs, results, weights, tracking, specs   the handlers of `antioversmooth`
requests    the specs and runs that arguments name
completion  the script for bash and zsh
"""

from antioversmooth.cli.main import main

__all__ = ["main"]
