"""A private real SLURM: munge, slurmctld, a slurmd for each node, and on request slurmdbd with
MariaDB.

Everything (configuration, keys, spool, logs, database, clients) lies in one folder, and `down`
leaves no process. As root the daemons run in namespaces that nobody outside can reach; else, or
with SHARED_LOOPBACK=1, on this machine's loopback, which is the weaker test (see machines.py).
Needs Debian's packages; see `missing`.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

from machines import (
    OWNER,
    Machine,
    OwnMachine,
    SharedMachine,
    kill_all,
    namespaces_are_allowed,
    wait_until,
)

PACKAGES = "slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core iproute2"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd")
CLIENTS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo", "sacctmgr")
REQUEUE_DELAY_S = 5
"""Seconds that a requeued job waits; SLURM takes less than 5 for its default of 120."""
FREEZER = Path("/sys/fs/cgroup/freezer")

os.environ["PATH"] += f"{os.pathsep}/usr/sbin{os.pathsep}/sbin"
# set if this process was started on a private cluster
_CLIENTS_OF_AN_OUTER_ONE = f"{os.environ.get(OWNER)}/bin"
PATH = os.pathsep.join(
    part for part in os.environ["PATH"].split(os.pathsep) if part != _CLIENTS_OF_AN_OUTER_ONE
)
"""Where programs are found, before any cluster puts its clients on it."""


def missing() -> str | None:
    """The missing requirement of a cluster on this machine, and how to install it; else None."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return (
            f"no {', '.join(absent)}: apt-get install --no-install-recommends {PACKAGES} (Debian,"
            " Ubuntu; the services that come with them need not run)"
        )
    return None


@cache
def shares_loopback() -> bool:
    """Whether nodes share this machine's loopback: on request, or without namespaces."""
    wanted = os.environ.get("SHARED_LOOPBACK", "") not in ("", "0")
    return wanted or os.geteuid() != 0 or not namespaces_are_allowed()


def tracking() -> str:
    """The preferred process tracking: cgroup, as on most clusters, where it is possible."""
    return "cgroup" if os.geteuid() == 0 and (FREEZER / "cgroup.procs").exists() else "linuxproc"


def remove_cgroups(node: str) -> None:
    """Removes the empty cgroups that a killed slurmd leaves behind."""
    for folder, _, _ in os.walk(FREEZER / f"slurm_{node}", topdown=False):
        os.rmdir(folder)


class Cluster:
    """A cluster of its own.

    Args:
        folder: Where all of it lies; short, since paths of Unix sockets must be.
        nodes: Number of nodes.
        accounting: Whether there is a slurmdbd, and so a sacct that answers.
        proctrack: linuxproc or cgroup; they differ in which processes get a job's signals.
        shared: Whether its nodes share this machine's loopback.
        extra: Further lines of slurm.conf.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int,
        accounting: bool,
        proctrack: str,
        shared: bool,
        extra: str = "",
    ) -> None:
        self.folder = folder
        self.accounting = accounting
        self.proctrack = proctrack
        self.shared = shared
        self.extra = extra
        self.login: Machine
        machines: list[Machine]
        if shared:
            self.login = SharedMachine(1, folder)
            machines = [SharedMachine(10 + n, folder) for n in range(1, nodes + 1)]
        else:
            # cgroups are named after nodes, so names differ between clusters
            hosts, stem = folder / "hosts", f"n{os.getpid()}x"
            self.login = switch = OwnMachine("login", 1, hosts)
            machines = [
                OwnMachine(f"{stem}{n}", 10 + n, hosts, switch) for n in range(1, nodes + 1)
            ]
        self.nodes = {machine.name: machine for machine in machines}
        self._ports = dict(
            zip(("controller", "database", *self.nodes), _free_ports(nodes + 2), strict=True)
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which SLURM's clients talk to this cluster."""
        own = {
            "SLURM_CONF": str(self.folder / "etc/slurm.conf"),
            "MYSQL_UNIX_PORT": str(self.folder / "db/socket"),
            OWNER: str(self.folder),
        }
        outer = {
            k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SRUN"))
        }
        return {**outer, **own, "PATH": f"{self.folder / 'bin'}{os.pathsep}{PATH}"}

    def up(self) -> None:
        """Starts everything; returns when all nodes are idle."""
        try:
            self._write_files()
            self.login.power_on()
            if isinstance(self.login, OwnMachine):
                (self.folder / "login.pid").write_text(str(self.login.first_pid))
            self._start_munge()
            if self.accounting:
                self._start_database()
            self.start_controller()
            for name in self.nodes:
                self.power_on(name)
            wait_until(lambda: set(self._node_states()) == {"idle"}, "idle nodes", seconds=180)
        except BaseException as error:
            # the folder is removed with the cluster, so its logs go into the error
            error.add_note(f"nodes: {self._node_states()}\n{self._ends_of_logs()}")
            self.down()
            raise

    def down(self) -> None:
        """Ends every process; leaves the folder, with its logs."""
        for machine in (*self.nodes.values(), self.login):
            machine.power_off()
        # also what was started from here: launchers, clients
        kill_all(self.folder)
        for name in self.nodes:
            remove_cgroups(name)

    def ask(self, *command: str) -> str:
        """Output of a SLURM client.

        Raises:
            RuntimeError: It fails; the message holds its output.
        """
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    def power_on(self, node: str) -> None:
        """Boots a node."""
        self.nodes[node].power_on()
        self.start_slurmd(node)

    def power_off(self, node: str) -> None:
        """Powers a node off, without a shutdown."""
        self.nodes[node].power_off()
        remove_cgroups(node)

    def start_slurmd(self, node: str) -> None:
        self.nodes[node].run("slurmd", "-N", node, env=self.environment)

    def kill_slurmd(self, node: str) -> None:
        """Kills a node's slurmd only: the processes of its jobs live on."""
        self._signal(self.nodes[node], self.folder / f"run/{node}.pid", signal.SIGKILL)

    def start_controller(self) -> None:
        self.login.run("slurmctld", env=self.environment)

    def stop_controller(self) -> None:
        pid = self.folder / "run/slurmctld.pid"
        self._signal(self.login, pid, signal.SIGTERM)
        wait_until(lambda: not pid.exists(), "end of slurmctld")

    def _signal(self, machine: Machine, pid_file: Path, number: signal.Signals) -> None:
        machine.run("kill", f"-{number.value}", pid_file.read_text().strip())

    def _node_states(self) -> list[str]:
        try:
            return self.ask(
                "sinfo", "--noheader", "-N", "--partition=main", "--format=%T"
            ).splitlines()
        except RuntimeError:
            return []

    def _database_answers(self) -> bool:
        with suppress(RuntimeError):
            self.ask("sacctmgr", "--noheader", "show", "cluster")
            return True
        return False

    def _ends_of_logs(self) -> str:
        logs = sorted(self.folder.glob("log/*.log"))
        return "\n".join(f"{log.name}:\n{''.join(log.open().readlines()[-10:])}" for log in logs)

    def _start_munge(self) -> None:
        munge = self.folder / "munge"
        files = [
            f"--{kind}={munge / kind}"
            for kind in ("socket", "key-file", "pid-file", "log-file", "seed-file")
        ]
        self.login.run("munged", "--force", *files, env=self.environment)

    def _start_database(self) -> None:
        """Starts MariaDB on an empty folder, behind a socket; slurmdbd makes its tables."""
        db = self.folder / "db"
        paths = [
            f"--datadir={db}",
            f"--socket={db / 'socket'}",
            f"--pid-file={db / 'pid'}",
            f"--log-error={db / 'log'}",
        ]
        small = [
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=8M",
            "--performance-schema=off",
        ]
        fast = [
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
            "--innodb-lock-wait-timeout=900",
        ]
        server = [
            "mariadbd",
            "--no-defaults",
            *paths,
            *small,
            *fast,
            "--skip-networking",
            "--skip-grant-tables",
        ]
        # MariaDB is the only daemon that stays in the foreground
        user = ["--user=root"] if os.geteuid() == 0 else []
        self.login.run(
            "sh",
            "-c",
            f"setsid {shlex.join([*server, *user])} >/dev/null 2>&1 &",
            env=self.environment,
        )
        wait_until((db / "socket").exists, "database")
        self.login.run("slurmdbd", env=self.environment)
        # slurmdbd logs "started" before it listens, and slurmctld ends at once without it
        wait_until(self._database_answers, "slurmdbd that answers", seconds=180)

    def _write_files(self) -> None:
        spools = [f"spool/{node}" for node in self.nodes]
        for name in ("etc", "munge", "log", "run", "state", "db", "bin", "dev", *spools):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o711)
        key = self.folder / "munge/key-file"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        machines = [self.login, *self.nodes.values()]
        hosts = [
            "127.0.0.1 localhost",
            *(f"{machine.address} {machine.host_name}" for machine in machines),
        ]
        (self.folder / "hosts").write_text("\n".join(hosts) + "\n")
        for number in range(2):
            # a GPU must be a character device
            (self.folder / f"dev/nvidia{number}").symlink_to("/dev/null")
        for name, text in self._configuration().items():
            (self.folder / "etc" / name).write_text(text)
            (self.folder / "etc" / name).chmod(0o600)
        for client in CLIENTS if not self.shared else ():
            self._write_client(client)

    def _write_client(self, client: str) -> None:
        """Writes a client for the host, which is outside the network of the cluster."""
        network = f"nsenter --net=/proc/$(cat {self.folder}/login.pid)/ns/net"
        program, real = self.folder / "bin" / client, shutil.which(client, path=PATH)
        program.write_text(
            f"#!/bin/sh\ncase $(uname -n) in {'|'.join((self.login.name, *self.nodes))}) "
            f'exec {real} "$@";; esac\n'
            f'exec {network} {real} "$@"\n'
        )
        program.chmod(0o755)

    def _configuration(self) -> dict[str, str]:
        munge = self.folder / "munge/socket"
        storage = (
            f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost={self.login.address}\n"
            f"AccountingStoragePort={self._ports['database']}\n"
            # connections to slurmdbd take munge's socket from here only
            f"AccountingStoragePass={munge}"
            if self.accounting
            else "AccountingStorageType=accounting_storage/none"
        )
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={node.host_name} NodeAddr={node.address}"
            f" Port={self._ports[name]}"
            for name, node in self.nodes.items()
        )
        common = {
            "folder": self.folder, "munge": munge, "login": self.login.host_name,
            "user": getpass.getuser(),
            "address": self.login.address,
        }  # fmt: skip
        return {
            "slurm.conf": SLURM_CONF.format(
                **common, port=self._ports["controller"], proctrack=self.proctrack,
                delay=REQUEUE_DELAY_S,
                storage=storage, nodes=nodes,
            )
            + self.extra,
            "slurmdbd.conf": SLURMDBD_CONF.format(**common, port=self._ports["database"]),
            "gres.conf": (
                f"NodeName={','.join(self.nodes)} Name=gpu File={self.folder}/dev/nvidia[0-1]\n"
            ),
            "cgroup.conf": (
                "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n"
            ),
        }  # fmt: skip


def _free_ports(count: int) -> list[int]:
    """Unused ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


SLURM_CONF = """
ClusterName=private
SlurmctldHost={login}({address})
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={munge},cred_expire={delay}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
SlurmctldSyslogDebug=quiet
SlurmdSyslogDebug=quiet
ProctrackType=proctrack/{proctrack}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
DependencyParameters=kill_invalid_depend
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MessageTimeout=10
{storage}
NodeName=DEFAULT CPUs=8 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=evicted Nodes=ALL PriorityTier=1 PreemptMode=CANCEL GraceTime=0
"""

SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={munge}
DbdHost={login}
DbdAddr={address}
DbdPort={port}
SlurmUser={user}
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=accounting
"""
