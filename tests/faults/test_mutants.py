"""Each protection is needed: without it, a test that names it fails.

A mutant that no test notices fails its own test here. Every docstring says which protection is
taken out, and which test then fails; the same test passes with it, in the same place.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

import aqm_db
from aqm_db import (
    AsyncClientDatabase,
    AsyncSecureVault,
    AsyncSmartInventory,
    coins,
    database,
    gc,
    replenisher,
)
from aqm_db._io import answers, confirming, shielding
from aqm_db._io.confirming import UNCONFIRMED, Confirming
from aqm_db._io.failures import ErrorReply, LinkFailure
from aqm_db._io.redispy import (
    async_channel,
    async_seam,
    clients as any_clients,
    faces,
)
from aqm_db._io.redispy.async_channel import Channel
from aqm_db._io.redispy.async_seam import AsyncSeam
from aqm_db._io.request import REPEATABLE_SECONDS, Request
from aqm_db._io.resources import Resources
from aqm_db._io.seam import Argument, Call, Command, Reply
from aqm_db._lua.loader import Script
from aqm_db._model import checks, keys
from aqm_db._operations import collecting, contacts, private_halves, reservations, stock
from aqm_db.errors import AccessDeniedError, AQMDatabaseError
from aqm_db.types import CoinCategory, InventorySummary
from tests.api import (
    test_confirming as of_confirmations,
    test_confirming_together as of_bursts,
    test_connection as of_connections,
    test_inventory as of_the_inventory,
    test_spent_keys as of_spent_keys,
    test_used_coins as of_used_coins,
    test_vault as of_the_vault,
)
from tests.care import test_coins as of_coins, test_replenisher as of_replenishing
from tests.cluster import test_redirects as of_redirects
from tests.conftest import INVENTORY_DB
from tests.faults import (
    test_cancellation as of_cancellation,
    test_clocks as of_clocks,
    test_closing as of_closing,
    test_environment as of_environment,
    test_late_repeats as of_late_repeats,
    test_lost_replies as of_lost_replies,
    test_permissions as of_permissions,
    test_repeats as of_repeats,
    test_stepped_clocks as of_stepped_clocks,
    test_wrong_clocks as of_wrong_clocks,
)
from tests.faults.support.clients_on_bad_links import DEFAULT
from tests.faults.support.cut_runs import Leap
from tests.faults.support.deserted_calls import SELECT
from tests.faults.support.fault_free_outcomes import REQUEST_ID
from tests.faults.support.fault_table import Tally
from tests.faults.support.mutants import without
from tests.faults.support.public_calls import errors_of, objects_over
from tests.faults.support.tried_calls import CAPS, OPERATIONS, Operation
from tests.faults.support.two_callers import ENCOUNTERS, Encounter
from tests.io import test_replies as of_replies
from tests.model import test_keys as of_names
from tests.support import waiting
from tests.support.backends import VALKEY_9, RunningServer, Servers
from tests.support.clusters import RunningPrimary
from tests.support.faces import ASYNC, FACES, Face
from tests.support.samples import BOB, MATE, Clock, SampleKey, sample_key
from tests.support.stepped_clocks import SteppedServer

NOTICED = (AssertionError, AQMDatabaseError, pytest.fail.Exception)
"""How a test fails that notices a mutant."""


@dataclass
class Lab:
    """What the tests of other modules get from their fixtures, by the same names."""

    servers: Servers
    real_server: RunningServer
    direct: Redis
    vault_client: Redis
    inventory_client: Redis
    client: SyncRedis
    clock: Clock
    vault: AsyncSecureVault
    inventory: AsyncSmartInventory
    sample_gold_key: SampleKey
    registered_bestie: str
    registered_mate: str
    backoffs: list[float]
    monkeypatch: pytest.MonkeyPatch
    tally: Tally
    thorough: bool = False

    def without(self, script: Script, pattern: str, replacement: str = "") -> None:
        """Changes a script, until the test ends."""
        without(self.monkeypatch, script, pattern, replacement)

    async def is_noticed_by(self, test: Callable[..., Any], **arguments: Any) -> None:
        """Makes sure that a test fails with the mutant, and passes without it."""
        with pytest.raises(NOTICED) as noticed:
            await self._run(test, arguments)
        # A script that doesn't even run is refused with the base class.
        assert noticed.type is not AQMDatabaseError, noticed.value
        self.monkeypatch.undo()
        await self._run(test, arguments)

    async def _run(self, test: Callable[..., Any], arguments: dict[str, Any]) -> None:
        await self.direct.flushdb()
        wanted = inspect.signature(test).parameters
        if "registered_bestie" in wanted:
            await self.inventory.register_contact(BOB, "BESTIE", "Bob")
        if "registered_mate" in wanted:
            await self.inventory.register_contact(MATE, "MATE")
        given = {
            name: getattr(self, name)
            for name in wanted
            if name not in arguments and hasattr(self, name)
        }
        self.clock.now = Clock().now
        outcome = test(**given, **arguments)
        if inspect.isawaitable(outcome):
            await outcome


@pytest.fixture
def lab(
    servers: Servers, real_server: RunningServer, direct: Redis, backoffs: list[float]
) -> Iterator[Lab]:
    """A laboratory, with a table of its own."""
    clock = Clock()
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        real_server.sync_client(INVENTORY_DB) as client,
    ):
        yield Lab(
            servers=servers,
            real_server=real_server,
            direct=direct,
            vault_client=direct,
            inventory_client=direct,
            client=client,
            clock=clock,
            vault=AsyncSecureVault(direct, clock=clock),
            inventory=AsyncSmartInventory(direct, clock=clock),
            sample_gold_key=sample_key("gold-1", "GOLD"),
            registered_bestie=BOB,
            registered_mate=MATE,
            backoffs=backoffs,
            monkeypatch=monkeypatch,
            tally=Tally(),
        )


@pytest_asyncio.fixture
async def clients() -> AsyncIterator[list[Redis]]:
    """Clients that a failing test leaves behind."""
    left: list[Redis] = []
    yield left
    for client in left:
        await client.aclose()


in_the_lab = pytest.mark.asyncio
port = of_connections.port
tcp_port = of_connections.tcp_port
limited = of_permissions.limited


# Request ids -------------------------------------------------------------------------------


@in_the_lab
@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.name != "vault.fetch_key"], ids=str
)
async def test_a_fresh_request_id_for_each_attempt(lab: Lab, operation: Operation) -> None:
    """Request ids: test_a_reply_that_is_lost_any_number_of_times."""
    numbers = count(10)
    ask_again = AsyncSeam._ask_again

    async def renamed(
        seam: AsyncSeam, commands: Sequence[Command], first: LinkFailure, request: Request
    ) -> list[Any]:
        fresh = f"new{next(numbers)}"
        again = [
            [each.replace(REQUEST_ID, fresh) if isinstance(each, str) else each for each in command]
            for command in commands
        ]
        return await ask_again(seam, again, first, request)

    lab.monkeypatch.setattr(AsyncSeam, "_ask_again", renamed)
    await lab.is_noticed_by(
        of_lost_replies.test_a_reply_that_is_lost_any_number_of_times,
        operation=operation,
        party=DEFAULT,
    )


@in_the_lab
@pytest.mark.parametrize(
    ("script", "pattern", "replacement", "operation"),
    [
        (private_halves.STORE, "== request_id then", "== '' then", "vault.store_key"),
        (private_halves.BURN, "== request_id then", "== '' then", "vault.burn_key"),
        (contacts.REGISTER, "== request_id", "== ''", "inventory.register_contact"),
        (stock.STORE, "== request_id and OK", "== '' and OK", "inventory.store_key"),
        (
            stock.SELECT,
            r"redis.call\('RENAMENX', row, claim\) == 0",
            "redis.call('RENAME', row, claim) == 0",
            "inventory.select_coin",
        ),
        (
            stock.RELEASE,
            r"redis.call\('EXISTS', claim\) == 1",
            "false",
            "inventory.release_coin",
        ),
        (
            stock.CONSUME,
            r"if redis.call\('EXISTS', claim\) == 1",
            "if false",
            "inventory.consume_key",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Script) else "",
)
async def test_a_request_that_is_not_recognised(
    lab: Lab, script: Script, pattern: str, replacement: str, operation: str
) -> None:
    """Request ids, in each script: test_a_request_that_is_sent_again."""
    lab.without(script, pattern, replacement)
    [asked] = [each for each in OPERATIONS if each.name == operation]
    await lab.is_noticed_by(of_repeats.test_a_request_that_is_sent_again, operation=asked)


@in_the_lab
async def test_a_claim_that_is_overwritten(lab: Lab) -> None:
    """Claims: test_a_request_that_is_asked_again_gets_the_same_coin."""
    lab.without(
        stock.SELECT,
        r"redis.call\('RENAMENX', row, claim\) == 0",
        "redis.call('RENAME', row, claim) == 0",
    )
    await lab.is_noticed_by(of_repeats.test_a_request_that_is_asked_again_gets_the_same_coin)


@in_the_lab
@pytest.mark.parametrize("name", ["select_coin", "select_coins"])
async def test_claims_that_are_over_too_soon(lab: Lab, leap: Leap, name: str) -> None:
    """Requests in doubt: test_a_request_that_arrives_when_many_were_answered."""

    def forget(*_: object) -> None:
        pass

    lab.monkeypatch.setattr(Request, "note_failure", forget)
    await lab.is_noticed_by(
        of_lost_replies.test_a_request_that_arrives_when_many_were_answered,
        name=name,
        leap=leap,
        stale=0,
    )


@in_the_lab
async def test_a_store_without_a_claim(lab: Lab) -> None:
    """Claims: test_another_client_acts_before_a_call_is_sent_again."""
    lab.without(stock.STORE, r"if redis.call\('EXISTS', claim\) == 1", "if false")
    await lab.is_noticed_by(
        of_lost_replies.test_another_client_acts_before_a_call_is_sent_again,
        encounter=_encounter("store_key, selected"),
        party=DEFAULT,
    )


@in_the_lab
async def test_a_repeated_select_that_sets_aside(lab: Lab) -> None:
    """Claims: test_a_request_that_is_asked_again_sets_nothing_aside."""
    lab.without(stock.SELECT, r"if #skipped == 0 and [^\n]* then", "if false then")
    await lab.is_noticed_by(of_repeats.test_a_request_that_is_asked_again_sets_nothing_aside)


def _encounter(name: str) -> Encounter:
    [found] = [encounter for encounter in ENCOUNTERS if encounter.name == name]
    return found


# Time --------------------------------------------------------------------------------------


FORGOTTEN = {
    "inventory.select_coin": stock.SELECT,
    "inventory.consume_key": stock.CONSUME,
    "inventory.release_coin": stock.RELEASE,
    "inventory.set_contact_priority": contacts.SET_PRIORITY,
    "inventory.forget_contact": contacts.FORGET,
    "vault.burn_key": private_halves.BURN,
}
"""Calls of which the server forgets who made them."""


@in_the_lab
@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize("operation", FORGOTTEN)
async def test_a_repeat_that_is_never_late(
    lab: Lab, tmp_path: Path, operation: str, side: str
) -> None:
    """UNKNOWN: test_a_repeat_that_outlives_its_trace."""

    def always(*_: object) -> bool:
        return True

    [asked] = [each for each in OPERATIONS if each.name == operation]
    if side == "server":
        lab.without(FORGOTTEN[operation], r"return not sent or [^\n]*", "return not sent")
    else:
        lab.monkeypatch.setattr(Request, "is_refuted", always)

    async def test() -> None:
        with SteppedServer(VALKEY_9) as server:
            async with server.client(INVENTORY_DB) as direct:
                await of_stepped_clocks.test_a_repeat_that_outlives_its_trace(
                    server, direct, tmp_path, asked, ASYNC, lab.tally
                )

    await lab.is_noticed_by(test)


@in_the_lab
@pytest.mark.parametrize("face", FACES, ids=str)
async def test_a_client_that_does_not_look_at_the_time(
    lab: Lab, face: Face, tmp_path: Path, leap: Leap
) -> None:
    """The deadline of a request: test_a_client_that_slept_before_it_asks_again."""

    def never(_: Request) -> bool:
        return False

    def count_all(_: Request) -> float:
        return REPEATABLE_SECONDS

    lab.monkeypatch.setattr(Request, "is_over", never)
    lab.monkeypatch.setattr(Request, "count_left", count_all)
    await lab.is_noticed_by(
        of_late_repeats.test_a_client_that_slept_before_it_asks_again,
        face=face,
        seconds=REPEATABLE_SECONDS,
        times=1,
        tmp_path=tmp_path,
        leap=leap,
    )


@in_the_lab
async def test_coins_that_are_set_aside_by_a_clock_that_jumped(lab: Lab) -> None:
    """The time that is certain: test_stale_coins_are_replaced_once_the_clock_is_confirmed."""
    lab.without(reservations.RESERVE, "clock or confirmed,", "clock or shown,")

    async def test() -> None:
        with SteppedServer(VALKEY_9) as server:
            async with server.client(INVENTORY_DB) as direct:
                await of_stepped_clocks.test_stale_coins_are_replaced_once_the_clock_is_confirmed(
                    server,
                    AsyncClientDatabase(direct, direct, budget_caps=CAPS),
                    is_confirmed=False,
                )

    await lab.is_noticed_by(test)


@in_the_lab
@pytest.mark.parametrize("protection", ["counts", "room"])
async def test_stale_coins_that_are_stock(lab: Lab, protection: str) -> None:
    """What is counted, and what is reserved: test_stale_coins_are_no_stock."""

    async def count_all(_: object, summaries: Sequence[InventorySummary]) -> Any:
        return summaries

    async def test() -> None:
        await lab.inventory.register_contact(BOB, "BESTIE")
        await of_replenishing.test_stale_coins_are_no_stock(
            lab.inventory, lab.direct, BOB, lab.clock, None
        )

    if protection == "counts":
        lab.monkeypatch.setattr(replenisher, "leave_out_stale", count_all)
    else:
        lab.without(reservations.RESERVE, "cap > 0 and count [+] wanting > cap", "false")
    await lab.is_noticed_by(test)


@in_the_lab
async def test_what_was_measured_before_coins_were_set_aside(lab: Lab) -> None:
    """What is measured anew: test_bytes_of_stale_coins_are_free_again."""
    lab.without(reservations.RESERVE, "or gone > 0 or", "or")
    await lab.is_noticed_by(of_replenishing.test_bytes_of_stale_coins_are_free_again)


# Memory ------------------------------------------------------------------------------------


@in_the_lab
async def test_without_used_coin_memory(lab: Lab) -> None:
    """Used-coin memory: test_store_key_of_a_used_coin_raises."""
    lab.without(stock.STORE, "if was_used and", "if false and")
    await lab.is_noticed_by(of_the_inventory.test_store_key_of_a_used_coin_raises)


@in_the_lab
async def test_an_expired_coin_that_is_stored(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """The end of a coin's life: test_store_key_of_an_expired_coin_raises."""
    lab.without(stock.STORE, "expires_at and expires_at <= now then", "false then")
    await lab.is_noticed_by(
        of_the_inventory.test_store_key_of_an_expired_coin_raises, caplog=caplog
    )


@in_the_lab
@pytest.mark.parametrize("use", of_used_coins.USES.values(), ids=of_used_coins.USES)
async def test_a_use_that_is_forgotten_before_the_end(lab: Lab, use: of_used_coins.Use) -> None:
    """Used-coin memory, after 30 days: test_a_long_lived_coin_stays_used_to_its_end."""
    for script in (stock.SELECT, stock.CONSUME):
        lab.without(script, "if ends and ends > now [+] used_ttl then", "if false then")
    await lab.is_noticed_by(of_used_coins.test_a_long_lived_coin_stays_used_to_its_end, use=use)


@in_the_lab
@pytest.mark.parametrize(
    ("script", "pattern", "ending"),
    [
        (private_halves.BURN, r"note_spent\(spent, id, 'burned', ends\)", "burned"),
        (
            private_halves.PURGE,
            r"note_spent\(spent, key_id, 'purged', created_at [+] ttl\)",
            "purged",
        ),
        (
            private_halves.COUNTERS,
            r"note_spent\(spent, id, 'gone', ends\[position\]\)",
            "expired and counted",
        ),
    ],
    ids=["burned", "purged", "expired"],
)
async def test_a_vault_that_forgets(lab: Lab, script: Script, pattern: str, ending: str) -> None:
    """Memory of private halves that are gone: test_a_late_message_hears_how_its_key_went."""
    lab.without(script, pattern, "")
    end, error = of_spent_keys.ENDINGS[ending]
    await lab.is_noticed_by(
        of_spent_keys.test_a_late_message_hears_how_its_key_went, end=end, error=error
    )


@in_the_lab
@pytest.mark.parametrize("ending", ["burned", "purged", "expired"])
async def test_a_vault_that_takes_back_what_is_gone(lab: Lab, ending: str) -> None:
    """The same memory, asked by a store: test_it_does_not_come_back."""
    lab.without(private_halves.STORE, "if fate == 'burned' then", "if false then")
    lab.without(private_halves.STORE, "if not is_lost then", "if false then")
    end, error = of_spent_keys.ENDINGS[ending]
    await lab.is_noticed_by(of_spent_keys.test_it_does_not_come_back, end=end, error=error)


@in_the_lab
async def test_without_tombstones(lab: Lab) -> None:
    """Tombstones: test_burn_already_burned_raises."""
    lab.without(
        private_halves.BURN,
        r"redis.call\('PEXPIRE', row, grace\)",
        "redis.call('DEL', row)",
    )
    await lab.is_noticed_by(of_the_vault.test_burn_already_burned_raises)


@in_the_lab
async def test_a_lost_burn_without_a_tombstone(lab: Lab) -> None:
    """Tombstones: test_another_client_acts_before_a_call_is_sent_again."""
    lab.without(
        private_halves.BURN,
        r"redis.call\('PEXPIRE', row, grace\)",
        "redis.call('DEL', row)",
    )
    await lab.is_noticed_by(
        of_lost_replies.test_another_client_acts_before_a_call_is_sent_again,
        encounter=_encounter("vault.burn_key, stored"),
        party=DEFAULT,
    )


@in_the_lab
async def test_without_receipts(lab: Lab) -> None:
    """Receipts of release: test_release_coin_twice_returns_false."""
    lab.without(stock.RELEASE, r"tonumber\(receipt\) ~= used_at", "false")
    await lab.is_noticed_by(of_the_inventory.test_release_coin_twice_returns_false)


@in_the_lab
async def test_one_receipt_for_two_uses(lab: Lab) -> None:
    """Receipts of release, raised above an earlier use's: test_release_coin_twice_returns_false."""
    lab.without(
        stock.SELECT,
        r"redis.call\('ZSCORE', used, id\) \+ 1",
        "redis.call('ZSCORE', used, id)",
    )
    await lab.is_noticed_by(of_the_inventory.test_release_coin_twice_returns_false)


@in_the_lab
async def test_without_the_stale_rule(lab: Lab) -> None:
    """The stale rule: test_select_coin_drops_stale_coins."""
    lab.without(stock.SELECT, "expires_at <= now", "false")
    await lab.is_noticed_by(of_the_inventory.test_select_coin_drops_stale_coins)


@in_the_lab
@pytest.mark.parametrize("meanwhile", ["stale", "expired"])
async def test_a_release_without_the_stale_rule(lab: Lab, meanwhile: str) -> None:
    """The stale rule: test_release_coin_that_has_no_place_any_more_returns_false."""
    lab.without(stock.RELEASE, r"ends <= \(clock or shown\)", "false")
    await lab.is_noticed_by(
        of_the_inventory.test_release_coin_that_has_no_place_any_more_returns_false,
        meanwhile=meanwhile,
    )


@in_the_lab
async def test_a_clock_that_is_not_checked(lab: Lab, tmp_path: Path) -> None:
    """Checked clocks: test_a_wrong_clock_of_whoever_uses_them."""

    def read(clock: checks.CheckedClock) -> int:
        return clock._clock()

    lab.monkeypatch.setattr(checks.CheckedClock, "__call__", read)
    await lab.is_noticed_by(
        of_wrong_clocks.test_a_wrong_clock_of_whoever_uses_them,
        client=lab.direct,
        kind="float",
        tmp_path=tmp_path,
    )


# Priorities --------------------------------------------------------------------------------


@in_the_lab
async def test_a_higher_priority_that_drops_coins(lab: Lab) -> None:
    """Only a downgrade trims: test_set_priority_upgrade_drops_nothing."""
    lab.without(contacts.SET_PRIORITY, "local lowered = unfinished and", "local lowered = true or")
    await lab.is_noticed_by(of_the_inventory.test_set_priority_upgrade_drops_nothing)


# Order -------------------------------------------------------------------------------------


@in_the_lab
async def test_without_the_raised_score(lab: Lab) -> None:
    """The index-order raise: test_select_coin_fifo_order."""
    lab.without(stock.STORE, r"math.max\(now, [^\n]*\)\)", "now)")
    await lab.is_noticed_by(of_the_inventory.test_select_coin_fifo_order)


@in_the_lab
async def test_a_release_to_the_head(lab: Lab) -> None:
    """Places in receipts: test_release_coin_keeps_first_in_first_out."""
    head = "redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]"
    lab.without(stock.RELEASE, "queue, score, key_id", f"queue, {head} - 1, key_id")
    await lab.is_noticed_by(
        of_the_inventory.test_release_coin_keeps_first_in_first_out,
        order=(0, 1, 2),
        meanwhile="nothing",
    )


@in_the_lab
async def test_a_place_that_is_given_twice(lab: Lab) -> None:
    """The newest place of a contact: test_release_coin_keeps_first_in_first_out."""
    lab.without(stock.STORE, r"parse_integer\(contact\[2\] or ''\)", "nil")
    await lab.is_noticed_by(
        of_the_inventory.test_release_coin_keeps_first_in_first_out,
        order=(0, 1, 2),
        meanwhile="all selected",
    )


@in_the_lab
async def test_a_contact_that_is_taken_for_an_earlier_one(lab: Lab) -> None:
    """Registrations in receipts: test_release_coin_of_a_contact_that_is_registered_again_..."""
    lab.without(stock.RELEASE, r"registration ~= \(contact\[2\] or ''\)", "false")
    await lab.is_noticed_by(
        of_the_inventory.test_release_coin_of_a_contact_that_is_registered_again_returns_false
    )


@in_the_lab
async def test_a_claim_without_its_origin(lab: Lab) -> None:
    """Registrations in claims: test_a_request_that_is_asked_again_is_of_the_same_contact."""
    lab.without(
        stock.SELECT,
        r"taken\[2\], \{\}",
        "string.match(taken[2], '^.* ') .. redis.call('HGET', meta, 'by'), {}",
    )
    await lab.is_noticed_by(of_repeats.test_a_request_that_is_asked_again_is_of_the_same_contact)


@in_the_lab
@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"format_score\(expires_at, coin_category\)", "format_score(now + ttl, coin_category)"),
        (r"(redis.call\('PEXPIREAT', row, )expires_at", r"\1now + ttl"),
    ],
    ids=["index", "row"],
)
async def test_expiry_by_the_clients_clock(lab: Lab, pattern: str, replacement: str) -> None:
    """The ends of rows, and their index: test_counters_equal_a_recount."""
    later = Clock()
    later.advance(days=1)
    pair = objects_over(lab.direct), objects_over(lab.direct, clock=later, name="other")
    lab.without(private_halves.STORE, pattern, replacement)
    await lab.is_noticed_by(of_clocks.test_counters_equal_a_recount, pair=pair)


@in_the_lab
async def test_a_search_that_ends_at_a_living_key(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """The search for dead rows: test_keys_that_are_gone_early_leave_the_counters."""
    lab.without(
        private_halves.COUNTERS,
        r"early = early \+ 1\n    end\n  end",
        "early = early + 1\n    end\n  else\n    break\n  end",
    )
    await lab.is_noticed_by(
        of_clocks.test_keys_that_are_gone_early_leave_the_counters, caplog=caplog
    )


@in_the_lab
async def test_an_expired_key_that_nobody_noticed(lab: Lab) -> None:
    """Counters: test_an_id_that_is_stored_again_after_its_key_expired_is_counted_once."""
    lab.without(private_halves.STORE, r"local expired = [^\n]*", "local expired = nil")
    await lab.is_noticed_by(
        of_the_vault.test_an_id_that_is_stored_again_after_its_key_expired_is_counted_once,
        tier="GOLD",
    )


# Check before write ------------------------------------------------------------------------


@in_the_lab
@pytest.mark.parametrize("limited", [VALKEY_9], indirect=True, ids=[""])
@pytest.mark.parametrize(
    ("script", "protection", "command", "step"),
    [
        (
            private_halves.STORE,
            r"redis.call\('ZADD', expiry, 'XX', 0, ''\)",
            "zadd",
            "vault.store_key",
        ),
        (private_halves.BURN, r"redis.call\('HDEL', row, ''\)", "hdel", "vault.burn_key"),
        (private_halves.BURN, r"redis.call\('ZREM', expiry, ''\)", "zrem", "vault.burn_key"),
        (private_halves.PURGE, r"redis.call\('ZREM', expiry, ''\)", "zrem", "purge"),
        (
            stock.STORE,
            r"redis.call\('ZREM', queue, key_id\)",
            "hset",
            "inventory.store_key",
        ),
        (
            stock.RELEASE,
            r"redis.call\('ZADD', queue, 'XX', score, ''\)",
            "zadd",
            "inventory.release_coin",
        ),
        (
            reservations.UNRESERVE,
            r"redis.call\('HDEL', leases, ''\)",
            "hdel",
            "end a reservation",
        ),
        (
            contacts.SET_PRIORITY,
            r"redis.call\('DEL', row_prefix\)",
            "del",
            "inventory.set_contact_priority",
        ),
        (
            collecting.COLLECT,
            r"redis.call\('DEL', row_prefix\)",
            "del",
            "gc.collect_single_contact",
        ),
        (
            stock.SELECT,
            r"put_back\(claim, row, coin_ttl, claim_prefix[^\n]*",
            "zadd",
            "inventory.select_coin(BRONZE)",
        ),
        (
            stock.CONSUME,
            r"redis.call\('RENAMENX', claim, row\)",
            "zadd",
            "inventory.consume_key",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Script) else "",
)
async def test_a_script_that_does_not_check_before_it_writes(
    limited: of_permissions.Limited,
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    protection: str,
    command: str,
    step: str,
) -> None:
    """Rehearsals, and the way back from a claim: test_a_forbidden_command_changes_nothing."""
    await limited.forbid(command)
    without(monkeypatch, script, protection, "")
    assert await _changes_anything(limited, step)
    monkeypatch.undo()
    assert not await _changes_anything(limited, step)


async def _changes_anything(limited: of_permissions.Limited, step: str) -> bool:
    before = await limited.kept.put_back()
    errors = await errors_of(of_permissions.STEPS[step](limited))
    assert [type(error) for error in errors] == [AccessDeniedError]
    after = await limited.kept.content()
    if of_permissions.find_promised(after) != of_permissions.find_coming(after):
        return True
    return of_permissions.usable(after) != of_permissions.usable(before)


# Cancellation ------------------------------------------------------------------------------


@in_the_lab
@pytest.mark.parametrize("undo", ["settling", "taking back"])
async def test_a_cancelled_call_without(
    lab: Lab, undo: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Undo on cancellation: test_a_caller_that_is_cancelled_at_any_step."""

    async def unsettled(*_: object) -> None:
        pass

    def keep_taken(*_: object) -> None:
        pass

    if undo == "settling":
        lab.monkeypatch.setattr(AsyncSeam, "_settle", unsettled)
    else:
        lab.monkeypatch.setattr("aqm_db._operations.stock.undo_select", keep_taken)
    await lab.is_noticed_by(
        of_cancellation.test_a_caller_that_is_cancelled_at_any_step,
        operation=SELECT,
        times=1,
        caplog=caplog,
    )


@in_the_lab
async def test_a_cancelled_call_without_a_limit(lab: Lab, tmp_path: Path, leap: Leap) -> None:
    """The limit of cancelled calls: test_a_cancelled_call_ends_in_time."""

    async def await_patiently(settling: asyncio.Task[None], _: float) -> bool:
        return await shielding.await_end(settling, 3600)

    lab.monkeypatch.setattr(async_seam, "await_end", await_patiently)
    await lab.is_noticed_by(
        of_late_repeats.test_a_cancelled_call_ends_in_time,
        tmp_path=tmp_path,
        socket_timeout=None,
        leap=leap,
    )


@in_the_lab
async def test_a_client_that_closes_before_a_call_is_asked_once_more(
    lab: Lab, tmp_path: Path
) -> None:
    """Waiting for who was answered just now: test_closing_waits_for_a_call_that_finds_out_..."""

    async def list_nothing(_: Channel) -> list[asyncio.Future[Any]]:
        return []

    lab.monkeypatch.setattr(Channel, "_list_awaited_soon", list_nothing)
    await lab.is_noticed_by(
        of_closing.test_closing_waits_for_a_call_that_finds_out_the_time, tmp_path=tmp_path
    )


@in_the_lab
async def test_a_server_that_forgot_its_scripts(lab: Lab) -> None:
    """Scripts that are sent again: test_forgotten_scripts."""

    async def once(ask: answers.Ask, call: Call, request: Request) -> Reply:
        [reply] = await ask((answers._make_evalsha(call, request),), request)
        if isinstance(reply, ErrorReply):
            raise AccessDeniedError
        return cast("Reply", reply)

    lab.monkeypatch.setattr(answers, "run", once)
    await lab.is_noticed_by(
        of_environment.test_forgotten_scripts,
        client=lab.direct,
        name="inventory.select_coin(BRONZE)",
    )


# Replies -----------------------------------------------------------------------------------


@in_the_lab
@pytest.mark.parametrize("reply", ["another contact's coin", "another request's coin"])
async def test_replies_that_nobody_looks_at(lab: Lab, tmp_path: Path, reply: str) -> None:
    """The claim in a reply: test_a_reply_to_another_call_hands_nothing_out."""

    def any_claim(*_: object) -> bool:
        return True

    lab.monkeypatch.setattr("aqm_db._operations.stock.names_claim", any_claim)
    await lab.is_noticed_by(
        of_replies.test_a_reply_to_another_call_hands_nothing_out,
        tmp_path=tmp_path,
        face=ASYNC,
        reply=of_replies.FOREIGN[reply],
    )


# Confirmation ------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[RunningPrimary]:
    """A primary and its replica."""
    with RunningPrimary(VALKEY_9, replicas=1) as running:
        yield running


@in_the_lab
@pytest.mark.parametrize("user", ["AsyncGarbageCollector", "maintenance"])
async def test_care_that_nothing_confirms(
    pair: RunningPrimary,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    user: str,
) -> None:
    """One confirmation for all: test_garbage_collection_waits_for_replicas, test_maintenance_..."""
    if user == "maintenance":
        _forget_confirming(monkeypatch, Resources, "open_gates")
    else:
        _forget_confirming(monkeypatch, gc, "take_seam")
    if user == "maintenance":
        test: Any = partial(of_confirmations.test_maintenance_waits_for_replicas, caplog=caplog)
    else:
        test = partial(of_confirmations.test_garbage_collection_waits_for_replicas, face=ASYNC)
    await _is_noticed_with_a_replica(pair, monkeypatch, test)


@in_the_lab
async def test_a_confirmation_of_what_was_not_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to confirm: test_what_is_refused_needs_no_confirmation."""

    def never(_: object) -> bool:
        return False

    monkeypatch.setattr(confirming, "_changed_nothing", never)
    with pytest.raises(NOTICED):
        await of_redirects.test_what_is_refused_needs_no_confirmation(ASYNC)
    monkeypatch.undo()
    await of_redirects.test_what_is_refused_needs_no_confirmation(ASYNC)


@in_the_lab
async def test_an_end_of_an_owner_that_nothing_confirms(
    pair: RunningPrimary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of a whole database: test_the_end_of_an_owner_waits_for_replicas."""
    _forget_confirming(monkeypatch, database, "make_seam")
    test = partial(of_confirmations.test_the_end_of_an_owner_waits_for_replicas, face=ASYNC)
    await _is_noticed_with_a_replica(pair, monkeypatch, test)


@in_the_lab
async def test_a_confirmation_for_each_caller(
    pair: RunningPrimary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One WAIT for all: test_many_at_once_are_confirmed_together."""

    class Unshared(tuple[Argument, ...]):
        __slots__ = ()

    monkeypatch.setattr(async_channel, "SharedCommand", Unshared)
    await _is_noticed_by_a_client(
        pair, monkeypatch, of_bursts.test_many_at_once_are_confirmed_together
    )


@in_the_lab
async def test_a_cancelled_caller_that_waits_for_a_replica(
    pair: RunningPrimary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its repetition behind no WAIT: test_a_cancelled_caller_waits_for_no_replica."""
    make = AsyncSeam.__init__

    def confirm_all(seam: Any, *arguments: Any) -> None:
        make(seam, *arguments)
        seam._look = partial(async_seam._ask_plainly, seam._change)

    monkeypatch.setattr(AsyncSeam, "__init__", confirm_all)
    # It's waited for until the replica would have been waited for.
    monkeypatch.setattr(waiting, "_SECONDS", 1.0)
    await _is_noticed_by_a_client(
        pair, monkeypatch, of_bursts.test_a_cancelled_caller_waits_for_no_replica
    )


async def _is_noticed_by_a_client(
    pair: RunningPrimary, monkeypatch: pytest.MonkeyPatch, test: Callable[..., Awaitable[None]]
) -> None:
    with pytest.raises(NOTICED):
        async with of_bursts.ready_client(pair) as client:
            await test(pair, client)
    monkeypatch.undo()
    pair.nodes[0].client.flushall()
    async with of_bursts.ready_client(pair) as client:
        await test(pair, client)


def _forget_confirming(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str) -> None:
    """Has a function make seams that wait for nothing."""
    make = getattr(holder, name)

    def forgetful(*arguments: Any, **options: Any) -> Any:
        given = [UNCONFIRMED if isinstance(each, Confirming) else each for each in arguments]
        return make(*given, **dict.fromkeys(options, UNCONFIRMED))

    monkeypatch.setattr(holder, name, forgetful)


async def _is_noticed_with_a_replica(
    pair: RunningPrimary, monkeypatch: pytest.MonkeyPatch, test: Callable[..., Awaitable[None]]
) -> None:
    with pytest.raises(NOTICED):
        await test(pair=pair)
    monkeypatch.undo()
    pair.nodes[0].client.flushall()
    await test(pair=pair)


# Names -------------------------------------------------------------------------------------


@in_the_lab
async def test_ids_in_names_as_they_are(lab: Lab) -> None:
    """Id encoding: test_different_ids_have_different_names."""
    lab.monkeypatch.setattr(keys, "encode_id", str)
    # What would be remembered outlives the test.
    lab.monkeypatch.setattr(keys, "_name_contact_keys", keys.ContactKeys)
    await lab.is_noticed_by(of_names.test_different_ids_have_different_names)


@in_the_lab
async def test_ids_in_names_as_they_are_on_the_server(lab: Lab) -> None:
    """Id encoding in the scripts: test_contacts_do_not_meet."""
    lab.without(stock.SELECT, r"(?s)return string.find\(id, .*?\) or id", "return id")
    await lab.is_noticed_by(of_names.test_contacts_do_not_meet)


# Associated data ---------------------------------------------------------------------------

_SIGNED_PARTS = {"purpose": 0, "key id": 1, "tier": 2, "version": 3, "public key": 4}
_SEALED_PARTS = {"purpose": 0, "owner": 1, "key id": 2, "tier": 3, "version": 4}


def _forget(lab: Lab, purpose: str, position: int) -> None:
    """Leaves a part out of what is signed or authenticated."""
    framed = coins._frame

    def forgetful(*parts: str | bytes) -> bytes:
        if parts[0] == purpose:
            parts = (*parts[:position], *parts[position + 1 :])
        return framed(*parts)

    lab.monkeypatch.setattr(coins, "_frame", forgetful)


@in_the_lab
@pytest.mark.parametrize("part", ["key id", "version", "public key"])
async def test_a_coin_whose_signature_leaves_out(lab: Lab, part: str) -> None:
    """Associated data of coins: test_verify_refuses_every_altered_field."""
    _forget(lab, coins._SIGNED, _SIGNED_PARTS[part])
    # What is signed no longer is what the module's own coins were signed for.
    tier: CoinCategory = "SILVER"
    lab.monkeypatch.setitem(of_coins.COINS, tier, coins.mint(of_coins.IDENTITY, "k", tier))
    await lab.is_noticed_by(of_coins.test_verify_refuses_every_altered_field, tier=tier)


@in_the_lab
async def test_a_coin_whose_tier_is_not_signed(lab: Lab) -> None:
    """Associated data of coins: test_tier_is_signed."""
    _forget(lab, coins._SIGNED, _SIGNED_PARTS["tier"])
    with pytest.MonkeyPatch.context() as monkeypatch:
        await lab.is_noticed_by(of_coins.test_tier_is_signed, monkeypatch=monkeypatch)


@in_the_lab
@pytest.mark.parametrize("part", ["owner", "key id", "tier", "version"])
async def test_a_seal_that_leaves_out(lab: Lab, part: str) -> None:
    """Associated data of private halves: test_unseal_refuses_other_context."""
    _forget(lab, coins._SEALED, _SEALED_PARTS[part])
    await lab.is_noticed_by(of_coins.test_unseal_refuses_other_context, tier="GOLD")


@in_the_lab
async def test_parts_without_their_lengths(lab: Lab) -> None:
    """Associated data, part by part: test_framing_is_length_prefixed."""

    def joined(*parts: str | bytes) -> bytes:
        return b"".join(part.encode() if isinstance(part, str) else part for part in parts)

    lab.monkeypatch.setattr(coins, "_frame", joined)
    await lab.is_noticed_by(of_coins.test_framing_is_length_prefixed)


# Connections -------------------------------------------------------------------------------


@in_the_lab
async def test_a_client_that_decodes(lab: Lab) -> None:
    """Refused clients: test_wrong_kinds_of_client."""

    def unchecked(client: Redis, *_: object) -> Redis:
        return client

    lab.monkeypatch.setattr(any_clients, "_check_client", unchecked)
    await lab.is_noticed_by(of_connections.test_wrong_kinds_of_client)


@in_the_lab
@pytest.mark.parametrize(
    ("setting", "other"),
    [
        ("socket_timeout", None),
        ("socket_connect_timeout", None),
        ("retry", Retry(NoBackoff(), 10)),
        ("maint_notifications_config", MaintNotificationsConfig()),
    ],
)
async def test_a_client_of_other_settings(
    # The server first: in the laboratory nobody waits for one to start.
    tcp_port: int,
    lab: Lab,
    clients: list[Redis],
    setting: str,
    other: object,
) -> None:
    """Connection settings: test_clients_of_both_databases."""
    options = faces.Face.make_options

    def keep_client(_: faces.Face, client: Redis) -> Redis:
        clients.append(client)
        return client

    def changed(face: faces.Face) -> dict[str, Any]:
        return {**options(face), setting: other}

    lab.monkeypatch.setattr(type(faces.ASYNC), "shape_client", keep_client)
    lab.monkeypatch.setattr(faces.Face, "make_options", changed)
    await lab.is_noticed_by(
        of_connections.test_clients_of_both_databases, face=aqm_db, tcp_port=tcp_port
    )
