"""How much is measured: enough for the tails, or little for a quick look."""

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of a run.

    Attributes:
        lone_rounds: rounds of the latency groups.
        lone_calls: calls per round there.
        crowd_rounds: rounds of the throughput groups.
        crowd_calls: calls per round there; at least four per caller are made.
        open_rounds: rounds of each arrival rate.
        open_seconds: how long each arrival rate is kept up in a round.
        open_calls: how many calls a round has at least.
        open_step: the factor between two arrival rates.
        far_rounds: rounds per distance.
        growth: numbers of contacts that select_coin is measured at.
        walks: numbers of contacts that background work is measured at.
        walk_rounds: rounds of background work.
        memory_coins: coins that are stored to weigh one.
        import_rounds: processes per import.
        owners: how many owners one client serves.
        weighed_owners: owners that are stored to weigh one.
        cluster_rounds: rounds of each comparison of clusters.
        cluster_calls: calls per round of the lone caller there; others make ten times as many.
        round_owners: how many owners a round of maintenance comes to.
        round_windows: how often select_coin is measured beside a round, and without one.
        round_calls: calls each time.
        other_keys: how many keys others have beside an owner.
        cost_rounds: how often an owner's operations are measured there.
        growth_rounds: how often that is measured which takes long in some commits.
        reserved: numbers of contacts that slots are reserved for, each twice the one before.
        overgiven: numbers of contacts whose coins come from a source that gives too many.
        queued: coins of a queue that takes no more, or has nothing but stale ones.
        many: what is selected, exported, imported or published at once.
        idling: milliseconds in which nothing is done.
        load_seconds: how long coins are stored and selected without a pause.
    """

    lone_rounds: int
    lone_calls: int
    crowd_rounds: int
    crowd_calls: int
    open_rounds: int
    open_seconds: float
    open_calls: int
    open_step: float
    far_rounds: int
    growth: tuple[int, ...]
    walks: tuple[int, ...]
    walk_rounds: int
    memory_coins: int
    import_rounds: int
    owners: int
    weighed_owners: int
    cluster_rounds: int
    cluster_calls: int
    round_owners: int
    round_windows: int
    round_calls: int
    other_keys: int
    cost_rounds: int
    growth_rounds: int
    reserved: tuple[int, ...]
    overgiven: tuple[int, ...]
    queued: tuple[int, ...]
    many: int
    idling: int
    load_seconds: int


FULL: Final = Plan(
    lone_rounds=100,
    lone_calls=50,
    crowd_rounds=12,
    crowd_calls=1024,
    open_rounds=5,
    open_seconds=0.3,
    open_calls=150,
    open_step=1.15,
    far_rounds=12,
    growth=(10, 1_000, 100_000),
    walks=(1_000, 10_000, 100_000),
    walk_rounds=3,
    memory_coins=20_000,
    import_rounds=15,
    owners=100_000,
    weighed_owners=200,
    cluster_rounds=40,
    cluster_calls=96,
    round_owners=5_000,
    round_windows=20,
    round_calls=1_000,
    other_keys=300_000,
    cost_rounds=30,
    growth_rounds=5,
    reserved=(100, 200, 400, 800, 1_600),
    overgiven=(50, 100, 200),
    queued=(5, 50, 500, 5_000),
    many=20_000,
    idling=2_000,
    load_seconds=45,
)
WHOLE: Final = replace(FULL, overgiven=(*FULL.overgiven, 400), growth_rounds=3)
"""All that goals speak of, though another commit takes half a minute for some of it each time."""
QUICK: Final = Plan(
    lone_rounds=20,
    lone_calls=25,
    crowd_rounds=3,
    crowd_calls=512,
    open_rounds=3,
    open_seconds=0.15,
    open_calls=50,
    open_step=1.6,
    far_rounds=2,
    growth=(10, 1_000, 10_000),
    walks=(1_000, 10_000),
    walk_rounds=2,
    memory_coins=4_000,
    import_rounds=5,
    owners=10_000,
    weighed_owners=40,
    cluster_rounds=8,
    cluster_calls=48,
    round_owners=1_000,
    round_windows=6,
    round_calls=500,
    other_keys=30_000,
    cost_rounds=10,
    growth_rounds=3,
    reserved=(100, 200, 400),
    overgiven=(25, 50),
    queued=(5, 50, 500),
    many=4_000,
    idling=500,
    load_seconds=5,
)
SMOKE: Final = Plan(
    lone_rounds=1,
    lone_calls=5,
    crowd_rounds=1,
    crowd_calls=64,
    open_rounds=1,
    open_seconds=0.05,
    open_calls=5,
    open_step=10,
    far_rounds=1,
    growth=(10, 100),
    walks=(1_000,),
    walk_rounds=1,
    memory_coins=100,
    import_rounds=1,
    owners=100,
    weighed_owners=6,
    cluster_rounds=1,
    cluster_calls=6,
    round_owners=20,
    round_windows=1,
    round_calls=10,
    other_keys=1_000,
    cost_rounds=1,
    growth_rounds=1,
    reserved=(2, 4),
    overgiven=(2, 4),
    queued=(2, 4),
    many=10,
    idling=10,
    load_seconds=1,
)
