"""The machines of a private cluster, made of Linux namespaces: own host name, own network, own loopback, own processes.

On one shared loopback a launcher that says MASTER_ADDR=127.0.0.1 passes; here it fails, as it does on a cluster.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

SUBNET = "10.131.0"  # exists only inside the namespaces that are made here


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = 30) -> None:
    """Returns once the condition holds.

    Raises:
        TimeoutError: It did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {seconds:.0f} s")
        time.sleep(0.05)


def namespaces_are_allowed() -> bool:
    """Whether this process may make network, process, mount and host-name namespaces, and link them."""
    if not all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip")):
        return False
    trial = "ip link add name v0 type veth peer name v1 && ip link add name b0 type bridge && hostname x"
    command = ["unshare", "-n", "-m", "-u", "-p", "--mount-proc", "--fork", "--kill-child", "sh", "-c", trial]
    return subprocess.run(command, capture_output=True).returncode == 0


class Machine:
    """A machine of its own. Killing its first process is pulling the plug: nothing on it survives.

    Args:
        hosts: The file that its processes see as /etc/hosts.
    """

    def __init__(self, name: str, number: int, hosts: Path) -> None:
        self.name = name
        self.address = f"{SUBNET}.{number}"
        self._hosts = hosts
        self._plug: subprocess.Popen[bytes] | None = None
        self.first_pid = 0
        """Of its first process, as seen from here."""

    def power_on(self, switch: Machine | None = None) -> None:
        """Starts it, wired to the machine that holds the switch, which is itself where none is given."""
        setup = f"hostname {self.name} && mount --bind {self._hosts} /etc/hosts && ip link set lo up"
        unshare = ["unshare", "-n", "-m", "-u", "-p", "--mount-proc", "--fork", "--kill-child"]
        # `wait` keeps bash as the first process, where it collects orphans
        life = f"{setup} && {{ sleep infinity & wait; }}"
        self._plug = subprocess.Popen([*unshare, "bash", "-c", life], stderr=subprocess.DEVNULL)
        children = Path(f"/proc/{self._plug.pid}/task/{self._plug.pid}/children")
        wait_until(lambda: children.read_text().split(), f"first process of {self.name}")
        self.first_pid = int(children.read_text().split()[0])
        wait_until(lambda: self.run("hostname", check=False) == self.name, f"host name of {self.name}")
        if switch is None:
            self._net("link", "add", "name", "switch", "type", "bridge")
            device = "switch"
        else:
            cable = f"to-{self.name}"
            peer = ["peer", "name", "eth0", "netns", str(self.first_pid)]
            switch._net("link", "add", "name", cable, "type", "veth", *peer)
            switch._net("link", "set", cable, "master", "switch", "up")
            device = "eth0"
        self._net("addr", "add", f"{self.address}/24", "dev", device)
        self._net("link", "set", device, "up")

    def power_off(self) -> None:
        """Ends all its processes at once."""
        if self._plug is not None:
            os.kill(self.first_pid, signal.SIGKILL)
            self._plug.wait(10)
            self._plug = None

    @property
    def is_on(self) -> bool:
        return self._plug is not None

    @property
    def enter(self) -> list[str]:
        """What a command starts with to run on this machine."""
        return ["nsenter", "-t", str(self.first_pid), "-n", "-m", "-u", "-p", "--"]

    @property
    def network(self) -> list[str]:
        """What a command starts with to talk over this machine's network while it stays here otherwise."""
        return ["nsenter", "-t", str(self.first_pid), "-n", "--"]

    def run(self, *command: str, check: bool = True, env: dict[str, str] | None = None) -> str:
        """Output of a command on this machine."""
        # files, not pipes: a daemon that keeps them open must not keep us waiting
        done = subprocess.run(
            [*self.enter, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd="/"
        )
        if check and done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stdout.decode()}")
        return done.stdout.decode().strip()

    def _net(self, *arguments: str) -> None:
        subprocess.run([*self.network, "ip", *arguments], check=True)
