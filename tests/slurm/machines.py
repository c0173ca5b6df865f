"""The machines of a private cluster: made of Linux namespaces where that is allowed, else on this
machine's loopback.

With namespaces each has its own host name, network, loopback and processes, so that a launcher that
says MASTER_ADDR=127.0.0.1 fails, as it does on a cluster. On a shared loopback it passes: that is
the weaker test.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

# the subnet exists only inside the namespaces
SUBNET = "10.131.0"
OWNER = "ANTIOVERSMOOTH_PRIVATE_SLURM"
"""Environment variable of every process of a cluster: its folder."""


COMMAND_TAKES_S = 60
"""More than any command on a machine takes; daemons go into the background."""


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = 60) -> None:
    """Returns once the condition holds.

    Raises:
        TimeoutError: It does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {seconds:.0f} s")
        time.sleep(0.05)


def namespaces_are_allowed() -> bool:
    """Whether this process may make network, process, mount and host-name namespaces, and link
    them."""
    if not all(shutil.which(tool) for tool in ("unshare", "nsenter", "setpriv", "ip")):
        return False
    trial = (
        "ip link add name v0 type veth peer name v1 && ip link add name b0 type bridge &&"
        " hostname x"
    )
    command = [
        "unshare",
        "-n",
        "-m",
        "-u",
        "-p",
        "--mount-proc",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        trial,
    ]
    return subprocess.run(command, capture_output=True, timeout=COMMAND_TAKES_S).returncode == 0


class Machine(Protocol):
    """A machine of a cluster."""

    name: str
    address: str
    host_name: str
    """The host name that its processes see."""

    def power_on(self) -> None:
        """Starts it."""

    def power_off(self) -> None:
        """Kills all its processes at once."""

    def run(self, *command: str, env: dict[str, str] | None = None) -> str:
        """Output of a command on this machine.

        Raises:
            RuntimeError: It fails; the message holds its output.
        """


def _run(command: list[str], name: str, env: dict[str, str] | None) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=env, cwd="/",
        timeout=COMMAND_TAKES_S,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{name}: {' '.join(command)}: {done.stdout.decode()}")
    return done.stdout.decode().strip()


class OwnMachine:
    """A machine of its own. It ends with the process that made it, however that one ends, and
    nothing on it survives.

    Args:
        number: Within its cluster; 1 holds the switch that the others are wired to.
        hosts: The file that its processes see as /etc/hosts.
        switch: The machine that holds the switch; None for itself.
    """

    def __init__(
        self, name: str, number: int, hosts: Path, switch: OwnMachine | None = None
    ) -> None:
        self.name = self.host_name = name
        self.address = f"{SUBNET}.{number}"
        self._hosts = hosts
        self._switch = switch
        self._plug: subprocess.Popen[bytes] | None = None
        self.first_pid = 0
        """Of its first process, as seen from here."""

    def power_on(self) -> None:
        setup = (
            f"hostname {self.name} && mount --bind {self._hosts} /etc/hosts && ip link set lo up"
        )
        # the kernel kills it with its parent, so a killed test run leaves no machine behind
        unshare = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "-n",
            "-m",
            "-u",
            "-p",
            "--mount-proc",
            "--fork",
        ]
        # `wait` keeps bash as the first process, where it collects orphans
        life = f"{setup} && {{ sleep infinity & wait; }}"
        command = [*unshare, "--kill-child", "bash", "-c", life]
        self._plug = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        children = Path(f"/proc/{self._plug.pid}/task/{self._plug.pid}/children")
        wait_until(lambda: children.read_text().split(), f"first process of {self.name}")
        self.first_pid = int(children.read_text().split()[0])
        wait_until(self._is_named, f"host name of {self.name}")
        if self._switch is None:
            self._net("link", "add", "name", "switch", "type", "bridge")
            device = "switch"
        else:
            cable = f"to-{self.name}"
            peer = ["peer", "name", "eth0", "netns", str(self.first_pid)]
            self._switch._net("link", "add", "name", cable, "type", "veth", *peer)
            self._switch._net("link", "set", cable, "master", "switch", "up")
            device = "eth0"
        self._net("addr", "add", f"{self.address}/24", "dev", device)
        self._net("link", "set", device, "up")

    def _is_named(self) -> bool:
        asked = subprocess.run(
            [*self._enter, "hostname"], capture_output=True, text=True, timeout=COMMAND_TAKES_S
        )
        return asked.stdout.strip() == self.name

    def power_off(self) -> None:
        if self._plug is not None:
            os.kill(self.first_pid, signal.SIGKILL)
            self._plug.wait(COMMAND_TAKES_S)
            self._plug = None

    @property
    def _enter(self) -> list[str]:
        """The prefix of a command that runs on this machine."""
        return ["nsenter", "-t", str(self.first_pid), "-n", "-m", "-u", "-p", "--"]

    def run(self, *command: str, env: dict[str, str] | None = None) -> str:
        return _run([*self._enter, *command], self.name, env)

    def _net(self, *arguments: str) -> None:
        network = ["nsenter", "-t", str(self.first_pid), "-n", "--"]
        subprocess.run([*network, "ip", *arguments], check=True, timeout=COMMAND_TAKES_S)


class SharedMachine:
    """A name for a part of this machine's processes. It is powered off by killing them.

    Nodes are called by addresses of the loopback, which resolve to themselves without a line in
    /etc/hosts.

    Args:
        number: Within its cluster.
        folder: The folder of its cluster, by which its processes are known.
    """

    def __init__(self, number: int, folder: Path) -> None:
        self.name = self.address = f"127.0.0.{number}"
        self.host_name = socket.gethostname().partition(".")[0]
        self._folder = folder

    def power_on(self) -> None:
        pass

    def power_off(self) -> None:
        kill_all(self._folder, self.name)

    def run(self, *command: str, env: dict[str, str] | None = None) -> str:
        # slurmd and its children find the name of their node in this variable
        return _run([*command], self.name, {**(env or os.environ), "SLURMD_NODENAME": self.name})


def processes(folder: Path, node: str | None = None) -> list[int]:
    """The processes of a cluster, or of one of its nodes; not this one."""
    return [int(proc.name) for proc in Path("/proc").glob("[0-9]*") if _belongs(proc, folder, node)]


def kill_all(folder: Path, node: str | None = None) -> None:
    """Kills every process of a cluster, or of one of its nodes, until there is none."""

    def killed() -> bool:
        found = processes(folder, node)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    wait_until(killed, f"end of the processes of {node or folder}")


def _belongs(proc: Path, folder: Path, node: str | None) -> bool:
    """Whether a process is one of a cluster's, or of a node's: by its environment, or by the log
    that it writes to.

    A slurmstepd writes its title over its environment.
    """
    if proc.name == str(os.getpid()):
        return False
    try:
        environment = (proc / "environ").read_bytes().split(b"\0")
        opened = {os.readlink(link) for link in (proc / "fd").iterdir()}
    except OSError:
        # the process has ended, or is another user's
        return False
    ours = f"{OWNER}={folder}".encode() in environment
    if node is None:
        return ours or any(path.startswith(f"{folder}/log/") for path in opened)
    return (
        ours and f"SLURMD_NODENAME={node}".encode() in environment
    ) or f"{folder}/log/{node}.log" in opened
