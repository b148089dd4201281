"""What groups and variants are called, in the results and in the report."""

from typing import Final

# Variants
LIBRARY: Final = "aqm_db"
AT_HAND: Final = "aqm_db, a coin at hand"
TOGETHER: Final = "aqm_db, single calls at once"
BATCH: Final = "aqm_db, one call"
PING: Final = "PING, default client"
GET: Final = "GET of 3.6 KB, default client"
EVALSHA: Final = "the same EVALSHA, default client"
COMMANDS: Final = "the specification's commands, one by one"
PIPELINES: Final = "two pipelines with ZPOPMIN"
WATCH: Final = "the specification's WATCH and MULTI"
MULTI: Final = "the specification's check, then MULTI"
HGETALL: Final = "HGETALL, default client"
NOTHING: Final = "nothing: what the machine itself adds"
AIOSQLITE: Final = "aiosqlite"
SQLITE: Final = "sqlite3 on the loop's own thread"
RAW: Final = "raw socket, packed beforehand"
OWN_PING: Final = "PING, aqm_db's connection"
SCRIPT: Final = "evalsha"
SERVER_ALONE: Final = "one server"
SERVER_AND_REPLICA: Final = "one server and its replica"
CLUSTER_OF_THREE: Final = "3 primaries"
CLUSTER_OF_SIX: Final = "3 primaries, 3 replicas"
UNCONFIRMED: Final = "aqm_db, a server and its replica"
CONFIRMED: Final = "the same, confirmed by the replica"
FULL_OWNER: Final = "20 private halves, 10 BESTIE contacts with full caps"
BUDGETED_OWNER: Final = "the same within the default budget of 64 KB"


def pipeline_of(size: int) -> str:
    """A pipeline that was written by hand."""
    return f"one hand-written pipeline of {size} scripts"


# What is measured of a task, each in a group of its own
TIME: Final = "time"
LONGEST: Final = "longest script"
STALL: Final = "longest stall of the loop"
BYTES: Final = "bytes"
IN_SERVER: Final = "time of the script in the server"

# Tasks
RESERVE: Final = "all slots of some contacts reserved"
OVERGIVEN: Final = "a source that gives one coin too many"
REFUSED: Final = "a store that a full queue refuses"
STALE: Final = "select_coin over stale coins"
SELECT_MANY: Final = "select_coins"
EXPORT: Final = "export"
IMPORT_MANY: Final = "import"
PUBLISH: Final = "mark_published"
LOOK: Final = "get_inventory"
COLLECT: Final = "garbage_collect"
SELECT_LONE: Final = "select_coin, alone"
SELECT_CROWD: Final = "select_coin, 64 callers"
STORE_LONE: Final = "inventory.store_key, alone"
CONFIRM_LONE: Final = "select_coin, confirmed by a replica, alone"
CONFIRM_CROWD: Final = "select_coin, confirmed by a replica, 512 callers"
LOAD: Final = "coins stored and selected, 3,500 a second"
IDLING: Final = "scripts that do nothing, for some ms"
OWN: Final = "an owner's operations"
FILL_INDEX: Final = "an index of contacts"

# Groups
SELECT: Final = "select_coin, alone"
AT_HAND_ALONE: Final = "a coin at hand, alone"
AT_HAND_CROWD: Final = "a coin at hand, callers: 64"
AT_HAND_ON_DISK: Final = "a coin at hand, confirmed by a disk that is asked once a second"
STORE: Final = "inventory.store_key, alone"
KEEP: Final = "vault.store_key, alone"
BURN: Final = "burn_key, alone"
FETCH: Final = "fetch_key, alone"
SELECT_50: Final = "a coin of each of 50 contacts"
STORE_50: Final = "50 coins to cache"
KEEP_50: Final = "50 private halves to store"
SYNC_SELECT: Final = "synchronous select_coin"
SYNC_FETCH: Final = "synchronous fetch_key"
IMPORT: Final = "import"
STATUS: Final = "`aqm-db status`, the whole process"
JOIN: Final = "`connect()` to an embedded server that runs"
START: Final = "`connect()` to one that has to start"
BEGIN: Final = "`connect()` to a new embedded database"
SERVER: Final = "select_coin, alone, in the server"
MEMORY: Final = "memory per coin"
OWNER: Final = "cost of an owner"
UNREPLICATED: Final = "select_coin, alone, on a cluster without replicas"
REPLICATED: Final = "select_coin, alone, on a cluster with replicas"
PRIMARIES: Final = "select_coin, 64 callers, by primaries"
MANY_OWNERS: Final = "register_contact, a new owner each time, by owners there are"
CONNECTIONS: Final = "connections of a client"
BESIDE_OTHERS: Final = "beside others"
ENTRY: Final = "memory of a contact's entry in the index, with a UUID"
ROUND: Final = "a round of maintenance, each of the owners"
BESIDE_SELECTS: Final = "beside 1,000 selections per second"
ROUND_BESIDE: Final = "select_coin, 1,000 per second, beside a round of maintenance"
ALONE: Final = "alone"
BESIDE: Final = "beside a round"
GROWTH: Final = "select_coin, alone, by number of contacts"
_CALLERS: Final = "select_coin, callers: "
_CONFIRMED: Final = "select_coin, confirmed or not, callers: "
_RATE: Final = "select_coin, arrivals per second: "
_OTHER: Final = ", the other commit"
_DISTANCE: Final = "select_coin, ms of round trip added: "
_AT_HAND_FAR: Final = "a coin at hand, ms of round trip added: "


def callers(count: int) -> str:
    """A closed loop."""
    return f"{_CALLERS}{count}"


def confirmed(callers: int) -> str:
    """A closed loop, of calls that a replica confirms, and of calls that none does."""
    return f"{_CONFIRMED}{callers}"


def primaries(count: int) -> str:
    """A cluster without replicas."""
    return "1 primary" if count == 1 else f"{count} primaries"


def cpu(group: str) -> str:
    """What a call of a group takes of the cores."""
    return f"{group}: CPU"


def rate(per_second: float) -> str:
    """An open loop."""
    return f"{_RATE}{per_second:.0f}"


def distance(milliseconds: float) -> str:
    """A longer way to the server."""
    return f"{_DISTANCE}{milliseconds:g}"


def at_hand_far(milliseconds: float) -> str:
    """Coins at hand, with a longer way to the server."""
    return f"{_AT_HAND_FAR}{milliseconds:g}"


def walk(operation: str) -> str:
    """Background work over everything that there is: seconds for a thousand of it."""
    return f"{operation}, per 1,000"


def beside(server: str) -> str:
    """An owner's operations beside the keys of others, on a kind of server."""
    return f"an owner beside others, {server}"


def cluster(server: str) -> str:
    """A cluster of a kind of server."""
    return f"cluster of {server}"


def cost(task: str, figure: str) -> str:
    """One figure of a task."""
    return f"cost of {task}: {figure}"


def on(task: str, server: str) -> str:
    """A task on a kind of server."""
    return f"{task}, {server}"


def against(name: str) -> str:
    """The same of the other commit."""
    return f"{name}{_OTHER}"


def is_other(name: str) -> bool:
    """Whether a variant is the other commit's."""
    return name.endswith(_OTHER)


def sized(count: int) -> str:
    """How much of something a task has before it."""
    return f"{count:,}"


def among(count: int) -> str:
    """How many contacts, or keys of the vault, there are."""
    return f"among {count:,}"
