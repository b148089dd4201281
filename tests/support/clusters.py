"""Real clusters and sentinels: several servers of one backend on loopback, in one directory."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.support.backends import Backend, Running
from tests.support.faces import ASYNC, Face
from tests.support.waiting import eventually

NODE_TIMEOUT_MS = 1000
"""How long a node is silent until the others take it for dead."""
_SLOTS = 16384
_BUS = 10_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# A node that is started again has its port back, and that of its bus: no other worker may have
# taken it meanwhile, nor may it be one that the kernel gives whoever connects (from 32768 on).
_PORTS = count(12_000 + 3_000 * (_WORKER % 3) + 7 * (time.time_ns() % 300))


class Node:
    """One server on a port of loopback.

    Attributes:
        port: its port.
        client: a client for the test's own questions.
    """

    def __init__(
        self, binary: Path, directory: Path, *options: str, password: str = "", away: int = 0
    ) -> None:
        self.port = _free_port()
        if away:
            # Redis 6.2 tells its own old port where it's set later.
            options = (*options, "--cluster-announce-port", str(self.port + away))
        self.directory = directory / str(self.port)
        self.directory.mkdir()
        self._command = [
            *(str(binary), *options, "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--dir", str(self.directory), "--daemonize", "no"),
        ]
        # Much of redis-py has no annotations.
        self.client: Any = redis.Redis(
            port=self.port,
            password=password or None,
            socket_timeout=5,
            retry=Retry(ConstantBackoff(0.02), 500),
        )
        self.start()

    def is_replicated(self) -> bool:
        """Whether a replica has all that this primary has."""
        return bool(self.client.execute_command("WAIT", 1, 100) == 1)

    @property
    def address(self) -> tuple[str, int]:
        """Its host and port."""
        return "127.0.0.1", self.port

    def start(self) -> None:
        """Starts it, again with the state that it was left in."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.client.ping()

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Stops it as a network that is cut would: its connections stay, and nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends it for good."""
        self.client.close()
        self.thaw()
        self.kill()

    def info(self, section: str, name: str) -> Any:
        """A field of INFO."""
        return self.client.info(section).get(name)


class RunningCluster(Running):
    """Primaries that share the slots evenly, each with a replica, or all without.

    Args:
        backend: which kind of server.
        options: command line options beyond those that every test server has.
        primaries: how many.
        with_replicas: whether each has one.
    """

    away = 0
    """What is added to the ports that nodes tell."""

    def __init__(
        self, backend: Backend, *options: str, primaries: int = 3, with_replicas: bool = True
    ) -> None:
        assert backend.binary is not None
        self._directory = Path(tempfile.mkdtemp(prefix="aqm-"))
        self.nodes = [
            Node(
                backend.binary(),
                self._directory,
                *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
                *("--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no"),
                *("--cluster-replica-validity-factor", "0", *options),
                away=self.away,
            )
            for _ in range(2 * primaries if with_replicas else primaries)
        ]
        self._join(self.nodes[:primaries], self.nodes[primaries:])

    def stop(self) -> None:
        """Stops all nodes, and removes their directory."""
        for node in self.nodes:
            node.stop()
        shutil.rmtree(self._directory)

    @property
    def url(self) -> str:
        """What ``connect`` takes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def client(self, **options: Any) -> redis.asyncio.RedisCluster:
        """A new asynchronous client, patient enough for a failover."""
        patient: dict[str, Any] = {
            "retry": AsyncRetry(ConstantBackoff(0.05), 400),
            "socket_timeout": 2,
        }
        return redis.asyncio.RedisCluster(
            startup_nodes=[AsyncClusterNode(*node.address) for node in self.nodes],
            require_full_coverage=False,
            **(patient | options),
        )

    def sync_client(self, **options: Any) -> redis.RedisCluster:
        """A new synchronous client, as patient."""
        patient: dict[str, Any] = {"retry": Retry(ConstantBackoff(0.05), 400), "socket_timeout": 2}
        nodes: list[Any] = [_sync_node(node) for node in self.nodes]
        return redis.RedisCluster(startup_nodes=nodes, **(patient | options))

    @asynccontextmanager
    async def client_of(self, face: Face) -> AsyncGenerator[Any]:
        """A new client of a face, closed in the end."""
        if face is ASYNC:
            async with self.client() as client:
                yield client
        else:
            with closing(self.sync_client()) as client:
                yield client

    def primary_of(self, tag: str) -> Node:
        """The node that has the slot of a key."""
        [found] = [node for node in self.nodes if self.serves(node, tag)]
        return found

    def serves(self, node: Node, tag: str) -> bool:
        """Whether a node says that it has the slot of a key."""
        return _serves(node, key_slot(tag.encode()))

    def replica_of(self, primary: Node) -> Node:
        """The replica of a node."""
        [found] = [
            node
            for node in self.nodes
            if node is not primary and node.info("replication", "master_port") == primary.port
        ]
        return found

    def other_than(self, primary: Node) -> Node:
        """Another primary."""
        return next(
            node
            for node in self.nodes
            if node is not primary and node.info("replication", "role") == "master"
        )

    def clear(self) -> None:
        """Deletes everything."""
        for node in self.nodes:
            if node.info("replication", "role") == "master":
                node.client.flushall()

    def settle(self) -> None:
        """Waits until every node agrees with all others, and every replica follows."""
        eventually(lambda: all(_is_settled(node, len(self.nodes)) for node in self.nodes))

    def _join(self, primaries: Sequence[Node], replicas: Sequence[Node]) -> None:
        bounds = [_SLOTS * number // len(primaries) for number in range(len(primaries) + 1)]
        for number, node in enumerate(self.nodes):
            _cluster(node, "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(primaries):
            _cluster(node, "ADDSLOTS", *range(bounds[number], bounds[number + 1]))
        for node in self.nodes[1:]:
            _cluster(node, "MEET", *self.nodes[0].address)
        eventually(lambda: all(_knows(node) == len(self.nodes) for node in self.nodes))
        for primary, replica in zip(primaries, replicas, strict=False):
            _cluster(replica, "REPLICATE", id_of(primary))
        self.settle()


class HiddenCluster(RunningCluster):
    """Primaries that tell addresses at which nobody is, as behind a translation of addresses.

    Args:
        backend: which kind of server.
    """

    away = 30_000

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend, with_replicas=False)
        eventually(lambda: all(map(self._tells_others, self.nodes)))

    def remap(self, address: tuple[str, int]) -> tuple[str, int]:
        """Where a node is reached that the others call by an address (redis-py's option)."""
        host, port = address
        return host, port - self.away

    def client(self, **options: Any) -> redis.asyncio.RedisCluster:
        """See :class:`RunningCluster`; it knows where the nodes are."""
        return super().client(address_remap=self.remap, **options)

    def sync_client(self, **options: Any) -> redis.RedisCluster:
        """The same."""
        return super().sync_client(address_remap=self.remap, **options)

    def _tells_others(self, node: Node) -> bool:
        told = {port for slots in _cluster(node, "SLOTS") for _, port, *_ in slots[2:]}
        return told == {each.port + self.away for each in self.nodes}


class Migration:
    """A slot on its way from one node to another, key by key or at once.

    Args:
        cluster: whose slot.
        tag: a key in it.
        target: where it goes; None is any other primary.
    """

    def __init__(self, cluster: RunningCluster, tag: str, target: Node | None = None) -> None:
        self.slot = key_slot(tag.encode())
        self.source = cluster.primary_of(tag)
        self.target = cluster.other_than(self.source) if target is None else target
        self._cluster = cluster

    def begin(self) -> None:
        """Tells both nodes."""
        _cluster(self.target, "SETSLOT", self.slot, "IMPORTING", id_of(self.source))
        _cluster(self.source, "SETSLOT", self.slot, "MIGRATING", id_of(self.target))

    def steps(self, most: int = 1) -> Iterator[int]:
        """Moves some keys at each step, and says how many, until none is left."""
        while True:
            keys = _cluster(self.source, "GETKEYSINSLOT", self.slot, most)
            if not keys:
                return
            command = ("MIGRATE", *self.target.address, "", 0, 5000, "KEYS", *keys)
            self.source.client.execute_command(*command)
            yield len(keys)

    def at_once(self) -> None:
        """Moves it as a whole (Valkey 9)."""
        target = id_of(self.target)
        _cluster(self.source, "MIGRATESLOTS", "SLOTSRANGE", self.slot, self.slot, "NODE", target)
        eventually(lambda: _serves(self.target, self.slot))
        self._cluster.settle()

    def end(self) -> None:
        """Gives the slot to its new node."""
        for node in (self.target, self.source):
            _cluster(node, "SETSLOT", self.slot, "NODE", id_of(self.target))
        self._cluster.settle()


class RunningPrimary(Running):
    """A server that is no cluster's, and its replicas.

    Args:
        backend: which kind of server.
        options: command line options beyond those that every test server has.
        replicas: how many.

    Attributes:
        nodes: the primary, and the replicas.
    """

    def __init__(self, backend: Backend, *options: str, replicas: int = 0) -> None:
        assert backend.binary is not None
        binary = backend.binary()
        with ExitStack() as unfinished:
            self._directory = Path(tempfile.mkdtemp(prefix="aqm-"))
            unfinished.callback(shutil.rmtree, self._directory)
            self.nodes: list[Node] = []
            for _ in range(1 + replicas):
                options_of = ("--repl-diskless-sync-delay", "0", *options)
                self.nodes.append(Node(binary, self._directory, *options_of))
                unfinished.callback(self.nodes[-1].stop)
            for replica in self.nodes[1:]:
                replica.client.replicaof(*self.nodes[0].address)
            eventually(lambda: all(map(_follows, self.nodes[1:])))
            self._stop = unfinished.pop_all().close

    def stop(self) -> None:
        """Stops all of them, and removes their directory."""
        self._stop()

    @property
    def url(self) -> str:
        """What ``connect`` takes."""
        return f"redis://127.0.0.1:{self.nodes[0].port}"


class RunningSentinels(Running):
    """A primary, its replica, and three sentinels that watch them.

    Args:
        backend: which kind of server.
        password: what the sentinels ask for; empty for none.

    Attributes:
        servers: the primary, and the replica.
        sentinels: those that watch.
    """

    name = "aqm"

    def __init__(self, backend: Backend, password: str = "") -> None:
        assert backend.binary is not None
        with ExitStack() as unfinished:
            self.servers = unfinished.enter_context(RunningPrimary(backend, replicas=1)).nodes
            directory = Path(tempfile.mkdtemp(prefix="aqm-"))
            unfinished.callback(shutil.rmtree, directory)
            self.sentinels: list[Node] = []
            for number in range(3):
                config = directory / f"sentinel-{number}.conf"
                config.write_text(
                    f"sentinel monitor {self.name} 127.0.0.1 {self.servers[0].port} 2\n"
                    f"sentinel down-after-milliseconds {self.name} {NODE_TIMEOUT_MS}\n"
                    f"sentinel failover-timeout {self.name} 5000\n"
                    f'requirepass "{password}"\n'
                )
                sentinel = Node(
                    *(backend.binary(), directory, str(config), "--sentinel"), password=password
                )
                unfinished.callback(sentinel.stop)
                self.sentinels.append(sentinel)
            eventually(self._is_watched)
            self._stop = unfinished.pop_all().close

    def stop(self) -> None:
        """Stops all of them, and removes their directories."""
        self._stop()

    @property
    def url(self) -> str:
        """What ``connect`` takes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.name}"

    def primary(self) -> Node:
        """The server that the sentinels take for the primary."""
        command = "SENTINEL GET-MASTER-ADDR-BY-NAME"
        _, port = self.sentinels[0].client.execute_command(command, self.name)
        return next(node for node in self.servers if node.port == port)

    def forget(self) -> None:
        """Has all sentinels watch nothing any more."""
        for sentinel in self.sentinels:
            sentinel.client.execute_command("SENTINEL REMOVE", self.name)

    def remember(self, primary: Node) -> None:
        """Has them watch a primary again, as they did."""
        settings = (("down-after-milliseconds", NODE_TIMEOUT_MS), ("failover-timeout", 5000))
        for sentinel in self.sentinels:
            sentinel.client.execute_command("SENTINEL MONITOR", self.name, *primary.address, 2)
            for setting in settings:
                sentinel.client.execute_command("SENTINEL SET", self.name, *setting)
        eventually(self._is_watched)

    def _is_watched(self) -> bool:
        states: list[Any] = [
            sentinel.client.execute_command("SENTINEL MASTER", self.name)
            for sentinel in self.sentinels
        ]
        return all(
            state["num-other-sentinels"] == 2 and state["num-slaves"] == 1 for state in states
        )


def _follows(replica: Node) -> bool:
    return bool(replica.info("replication", "master_link_status") == "up")


def id_of(node: Node) -> str:
    """A node's name in its cluster."""
    return str(_cluster(node, "MYID").decode())


def _cluster(node: Node, *command: Any) -> Any:
    # Without redis-py's own parsing of what CLUSTER answers.
    with node.client.client() as client:
        client.response_callbacks.clear()
        return client.execute_command("CLUSTER", *command)


def _lines(node: Node) -> list[list[str]]:
    text = _cluster(node, "NODES").decode()
    return [line.split() for line in text.splitlines()]


def _knows(node: Node) -> int:
    return sum("handshake" not in fields[2] for fields in _lines(node))


def _is_settled(node: Node, others: int) -> bool:
    if node.info("replication", "role") == "slave" and (
        node.info("replication", "master_link_status") != "up"
    ):
        return False
    state = _cluster(node, "INFO").decode()
    flags = [fields[2] for fields in _lines(node)]
    return (
        "cluster_state:ok" in state
        and len(flags) == others
        and not any("fail" in flag or "handshake" in flag for flag in flags)
    )


def _serves(node: Node, slot: int) -> bool:
    try:
        mine = next(fields for fields in _lines(node) if "myself" in fields[2])
    except RedisError:
        return False
    for ranges in mine[8:]:
        if ranges[0] != "[":
            first, _, last = ranges.partition("-")
            if int(first) <= slot <= int(last or first):
                return True
    return False


def _sync_node(node: Node) -> Any:
    make: Any = ClusterNode
    return make(*node.address)


def _free_port() -> int:
    """A port that is free, as is the one of its cluster bus."""
    for port in _PORTS:
        with suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + _BUS))
            return port
    raise AssertionError("unreachable")
