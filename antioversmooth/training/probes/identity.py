"""Host, user, Python, torch and code of a rank."""

from __future__ import annotations

import getpass
import os
import platform
import sys
from collections.abc import Iterator

import torch

from antioversmooth.finding import Finding
from antioversmooth.runs.code import running_code
from antioversmooth.training.probes.context import Context, ok, wrong


def look(context: Context) -> Iterator[Finding]:
    """Names this rank's machine and software, and compares its code with the launched one."""
    yield ok(
        "software",
        f"{context.host}, user {_user()}: Python {platform.python_version()} ({sys.executable}),"
        f" torch {torch.__version__}",
        user=_user(),
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        started_by=context.info.launcher,
    )
    code, folder = running_code()
    expected = context.request.code
    if expected and code != expected:
        yield wrong(
            "code",
            f"{context.host} runs the code {code} of {folder}, and the login node runs {expected}",
            "something in cluster.setup, or in the shell start-up of the nodes, changes PYTHONPATH;"
            " or the node reads an old copy of the files",
            code=code,
        )
    else:
        yield ok("code", f"the code {code} of {folder}", code=code)


def compare(context: Context) -> Iterator[Finding]:
    """Compares the software of all ranks."""
    code, _ = running_code()
    together = context.exchange.gather([platform.python_version(), torch.__version__, code])
    if context.is_main and len({tuple(one) for one in together}) > 1:
        versions = "; ".join(
            f"rank {rank}: Python {python}, torch {torch_version}, code {code}"
            for rank, (python, torch_version, code) in enumerate(together)
        )
        yield wrong(
            "software",
            f"the ranks differ: {versions}",
            "give all nodes one environment, on the shared file system",
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # a container without an entry for this user
        return str(os.getuid())
