"""A real Slurm of three nodes on loopback, of the system's packages: munge, slurmctld, one slurmd per node.

    with Slurm(folder).up() as cluster:     SLURM_CONF names it; sbatch, squeue, … speak to it
        cluster.kill_node("n2")             SIGKILL of a slurmd and of all that runs there
        cluster.start_node("n2")

With accounting, MariaDB and slurmdbd are started, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

_TOOLS = ("sbatch", "squeue", "scontrol", "scancel", "slurmctld", "slurmd", "munged")
_ACCOUNTING = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb-install-db", "mariadb")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={run}/munge.sock,cred_expire=5
SlurmctldPort={port}
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/slurmd-%n.pid
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
{accounting}
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=5
OverTimeLimit=0
KillWait=2
MinJobAge={min_age}
MaxArraySize=10001
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
JobRequeue=1
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""

_DBD = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={run}/munge.sock
PidFile={run}/slurmdbd.pid
LogFile={root}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""


def require(*, accounting: bool = False) -> None:
    """Skip the test where Slurm is not installed, or may not be started."""
    for tool in _TOOLS + (_ACCOUNTING if accounting else ()):
        if shutil.which(tool, path=_PATH) is None:
            pytest.skip(f"{tool} is not installed: Slurm's packages (slurmctld slurmd slurm-client munge) are needed")
    if os.geteuid() != 0:
        pytest.skip("a Slurm of one's own is started as root here")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@dataclass
class Slurm:
    """A cluster under a folder, of a short name: sockets lie there.

    Attributes:
        root: the folder; it is made.
        nodes: how many.
        accounting: whether slurmdbd keeps accounts of jobs.
        min_age: seconds for which the controller knows of a job that has ended.
    """

    root: Path
    nodes: int = 3
    accounting: bool = False
    min_age: int = 300
    _server: subprocess.Popen[bytes] | None = None

    @property
    def run(self) -> Path:
        return self.root / "run"

    def environment(self) -> dict[str, str]:
        return os.environ | {"SLURM_CONF": str(self.root / "slurm.conf"), "PATH": _PATH}

    @contextlib.contextmanager
    def up(self) -> Iterator[Slurm]:
        """Start everything, and end everything."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(self.root / "slurm.conf"))
            patch.setenv("PATH", _PATH)
            try:
                self._start()
                yield self
            finally:
                with contextlib.suppress(subprocess.SubprocessError):
                    self.call("scancel", "--me")
                self.down()

    def call(self, *command: str, check: bool = False) -> str:
        done = subprocess.run(
            command,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout

    def _start(self) -> None:
        for name in ("state", "log", "run", *(f"spool/n{n}" for n in range(1, self.nodes + 1))):
            (self.root / name).mkdir(parents=True)
        key = self.root / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        munge = ("--force", f"--key-file={key}", f"--socket={self.run}/munge.sock", f"--pid-file={self.run}/munged.pid")
        more = (f"--log-file={self.root}/log/munged.log", f"--seed-file={self.run}/munge.seed", "--num-threads=2")
        self.call("munged", *munge, *more, check=True)
        self._configure()
        self.call("slurmctld", "-c", "-f", str(self.root / "slurm.conf"), check=True)
        for number in range(1, self.nodes + 1):
            self.start_node(f"n{number}")
        self.until(lambda: self.idle() == self.nodes, "the nodes did not come up")

    def _configure(self) -> None:
        host, user = socket.gethostname().partition(".")[0], "root"
        controller, dbd, database, *ports = free_ports(3 + self.nodes)
        nodes = [
            f"NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=2000 State=UNKNOWN"
            for n, port in enumerate(ports, 1)
        ]
        accounting = "AccountingStorageType=accounting_storage/none"
        names = {"host": host, "user": user, "root": self.root, "run": self.run, "min_age": self.min_age}
        if self.accounting:
            accounting = (
                "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
                f"AccountingStoragePort={dbd}\nAccountingStoragePass={self.run}/munge.sock"
            )
        conf = _CONF.format(**names, port=controller, accounting=accounting, nodes="\n".join(nodes))
        (self.root / "slurm.conf").write_text(conf)
        (self.root / "cgroup.conf").write_text("CgroupAutomount=no\nIgnoreSystemd=yes\n")
        if self.accounting:
            self._start_accounting(_DBD.format(**names, port=dbd, database=database), database)

    def _start_accounting(self, conf: str, port: int) -> None:
        data, sock = self.root / "db", self.run / "db.sock"
        data.mkdir()
        init = ("--no-defaults", "--user=root", f"--datadir={data}", "--auth-root-authentication-method=normal")
        self.call("mariadb-install-db", *init, "--skip-test-db", check=True)
        server = ["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={sock}"]
        server += [f"--pid-file={self.run}/mariadb.pid", "--bind-address=127.0.0.1", f"--port={port}", "--skip-log-bin"]
        server += ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=64M", "--innodb-lock-wait-timeout=900"]
        with (self.root / "log" / "db.log").open("wb") as log:
            self._server = subprocess.Popen(
                server, env=self.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        ask = ("mariadb", "--no-defaults", "-uroot", "-S", str(sock), "-e")
        self.until(lambda: "1" in self.call(*ask, "select 1"), "MariaDB did not come up")
        grants = "".join(
            f"create user slurm@{host} identified by 'slurm'; grant all on slurm_acct_db.* to slurm@{host};"
            for host in ("'127.0.0.1'", "localhost")
        )
        self.call(*ask, f"create database slurm_acct_db; {grants}", check=True)
        file = self.root / "slurmdbd.conf"
        file.write_text(conf)
        file.chmod(0o600)
        subprocess.run(["slurmdbd"], env=self.environment() | {"SLURM_CONF": str(file)}, check=True, timeout=60)
        answers = ("sacctmgr", "-n", "show", "cluster", "format=cluster")
        self.until((self.run / "slurmdbd.pid").exists, "slurmdbd did not come up")
        self.until(lambda: self._succeeds(*answers), "slurmdbd does not answer")
        self.call("sacctmgr", "-i", "-Q", "add", "cluster", "test", check=True)

    def _succeeds(self, *command: str) -> bool:
        return (
            subprocess.run(command, env=self.environment(), capture_output=True, check=False, timeout=60).returncode
            == 0
        )

    def idle(self) -> int:
        return len(set(self.call("sinfo", "-h", "-N", "-t", "idle,mixed,alloc", "-o", "%N").split()))

    def start_node(self, name: str) -> None:
        # A node that was down has a boot time of its own: -b says so.
        self.call("slurmd", "-b", "-N", name, "-f", str(self.root / "slurm.conf"), check=True)

    def kill_node(self, name: str) -> None:
        """Kill a node's daemon and every process that it began, at once."""
        pid = int((self.run / f"slurmd-{name}.pid").read_text())
        for process in self._of_node(name, pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _of_node(self, name: str, pid: int) -> list[psutil.Process]:
        """List a node's daemon, then those that watch its jobs, so that nobody is left to report; then the jobs."""
        watching, jobs = {}, []
        for process in psutil.process_iter(["environ"]):
            env = process.info["environ"] or {}
            if env.get("SLURM_CONF") == str(self.root / "slurm.conf") and env.get("SLURMD_NODENAME") == name:
                jobs.append(process)
                with contextlib.suppress(psutil.NoSuchProcess):
                    watching |= {parent.pid: parent for parent in process.parents() if "slurmstepd" in parent.name()}
        return [psutil.Process(pid), *watching.values(), *jobs]

    @staticmethod
    def until(condition: object, otherwise: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():  # type: ignore[operator]
                return
            time.sleep(0.05)
        pytest.fail(otherwise)

    def down(self) -> None:
        """End every daemon and all that they run; nodes first. There is nothing to save."""
        for file in sorted(self.run.glob("slurmd-*.pid")):
            with contextlib.suppress(OSError, ValueError, psutil.Error):
                self.kill_node(file.stem.removeprefix("slurmd-"))
        for name in ("slurmctld", "slurmdbd", "munged"):
            with contextlib.suppress(OSError, ValueError, psutil.Error):
                process = psutil.Process(int((self.run / f"{name}.pid").read_text()))
                process.kill()
                # Where nobody reaps orphans, what has ended stays as a zombie.
                self.until(
                    lambda process=process: process.status() == psutil.STATUS_ZOMBIE, "a daemon does not end", 20
                )
        if self._server is not None:
            self._server.kill()
            self._server.wait(20)
