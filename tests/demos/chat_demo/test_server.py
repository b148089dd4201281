"""Hands out each coin once, and keeps messages until they are acknowledged."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from aqm_db.chat_demo.envelope import load_envelope
from aqm_db.chat_demo.link import Link
from aqm_db.chat_demo.person import Person
from aqm_db.chat_demo.published_coin import dump_coin
from aqm_db.chat_demo.publisher import mint_coin
from aqm_db.demo import DemoError
from aqm_db.minter import PublicHalf
from tests.support.chat_people import half_of, read_frame, run_coin_server, take_coin, write_message

pytestmark = pytest.mark.asyncio


async def test_a_coin_is_claimed_once(bob: Person, socket: str, bobs_link: Link) -> None:
    """Ten who ask at once get 20 coins, none of them twice, and oldest first."""
    coins = [mint_coin(bob, "BRONZE") for _ in range(20)]
    assert await bobs_link.publish([half_of(coin) for coin in coins]) == 20

    async def claim(number: int) -> list[str]:
        async with Link.open(socket, f"claimant-{number}") as link:
            return [coin.key_id for coin in await link.claim("bob", "BRONZE", 3)]

    claims = await asyncio.gather(*map(claim, range(10)))
    claimed = [key_id for claim in claims for key_id in claim]
    assert sorted(claimed) == sorted(coin.private.key_id for coin in coins)
    assert sorted(map(len, claims)) == [0, 0, 0, 2, 3, 3, 3, 3, 3, 3]


async def test_coins_that_nobody_has_claimed_are_counted(bob: Person, bobs_link: Link) -> None:
    """One's own, by tier."""
    assert await bobs_link.count() == {}
    await bobs_link.publish([half_of(mint_coin(bob, "GOLD"))])
    await bobs_link.publish([half_of(mint_coin(bob, "BRONZE")) for _ in range(3)])
    await bobs_link.claim("bob", "GOLD", 1)
    assert await bobs_link.count() == {"BRONZE": 3}


async def test_a_claimed_coin_that_is_published_again_stays_claimed(
    bob: Person, bobs_link: Link
) -> None:
    """A minter that was killed before it marked a coin as published offers it again."""
    coin = half_of(mint_coin(bob, "GOLD"))
    await bobs_link.publish([coin])
    assert len(await bobs_link.claim("bob", "GOLD", 5)) == 1
    assert await bobs_link.publish([coin]) == 0
    assert await bobs_link.claim("bob", "GOLD", 5) == []


async def test_new_coins_are_announced(bob: Person, bobs_link: Link, alices_link: Link) -> None:
    """To everybody who is there."""
    await bobs_link.publish([half_of(mint_coin(bob, "BRONZE"))])
    assert await read_frame(alices_link) == {"published": "bob"}


async def test_forged_coins_are_refused(bob: Person, bobs_link: Link) -> None:
    """One that isn't by whom it's said to be, and all that came with it."""
    genuine, other = mint_coin(bob, "SILVER"), mint_coin(bob, "SILVER")
    forged = half_of(genuine, public_key=other.public_key)
    with pytest.raises(DemoError, match="refused: InvalidCoinError"):
        await bobs_link.publish([half_of(other), forged])
    assert await bobs_link.claim("bob", "SILVER", 5) == []


async def test_coins_of_nobody_are_refused(bob: Person, alices_link: Link) -> None:
    """The server must know whose signature to look for."""
    with pytest.raises(DemoError, match="refused: nobody has this name"):
        await alices_link.publish([half_of(mint_coin(bob, "BRONZE"))])


@pytest.mark.parametrize(
    "change",
    [
        {"key_id": 5},
        {"key_id": ""},
        {"coin_category": "PLATINUM"},
        {"public_key": "secret"},
        {"signature": None},
        {"expires_at": "never"},
    ],
    ids=str,
)
async def test_malformed_coins_are_refused(
    bob: Person,
    bobs_link: Link,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
) -> None:
    """Whatever is wrong with them, and whoever sends it."""

    def dump_malformed(coin: PublicHalf) -> dict[str, Any]:
        return dump_coin(coin) | change

    monkeypatch.setattr("aqm_db.chat_demo.link.dump_coin", dump_malformed)
    with pytest.raises(DemoError, match="refused: Invalid"):
        await bobs_link.publish([half_of(mint_coin(bob, "BRONZE"))])


async def test_a_mistake_of_the_servers_own_is_no_refusal(
    bob: Person, bobs_link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coin is good."""

    def fail(*_: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("aqm_db.chat_demo.server.verify_coin", fail)
    with pytest.raises(DemoError, match="500 Internal Server Error"):
        await bobs_link.publish([half_of(mint_coin(bob, "BRONZE"))])


async def test_a_name_is_taken_once(alice: Person, bob: Person, bobs_link: Link) -> None:
    """By the same person again, and by nobody else."""
    await bobs_link.introduce(bob.identity.public)
    with pytest.raises(DemoError, match="somebody else has this name"):
        await bobs_link.introduce(alice.identity.public)


@pytest.mark.parametrize("name", ["..", "a/b", "a?b#c", "a%2Fb", "a b\u00e9"])
async def test_a_name_is_no_path(bob: Person, socket: str, name: str) -> None:
    """Whatever is in it, it's the same person's everywhere, and nobody else's."""
    coin = half_of(mint_coin(bob, "BRONZE"))
    async with Link.open(socket, name) as link:
        await link.introduce(bob.identity.public)
        assert await link.publish([coin]) == 1
        assert await read_frame(link) == {"published": name}
        assert await link.claim("b", "BRONZE", 1) == []
        assert [claimed.key_id for claimed in await link.claim(name, "BRONZE", 1)] == [coin.key_id]


async def test_messages_stay_until_they_are_acknowledged(
    alice: Person, bob: Person, socket: str, alices_link: Link
) -> None:
    """Who hangs up without a word gets them again; who isn't there gets them later."""
    envelopes = [
        write_message(alice, take_coin(bob, mint_coin(bob, "BRONZE")), number) for number in (1, 2)
    ]
    for envelope in envelopes:
        await alices_link.send(envelope)
        assert await read_frame(alices_link) == {"accepted": envelope.message_id}
    async with Link.open(socket, "bob") as link:
        assert load_envelope((await read_frame(link))["envelope"]) == envelopes[0]
    async with Link.open(socket, "bob") as link:
        first, second = [await read_frame(link), await read_frame(link)]
        assert [load_envelope(frame["envelope"]) for frame in (first, second)] == envelopes
        await link.acknowledge(first["delivery"])
        # In the order in which they were sent, so this says that the server has heard it.
        await link.send(replace(envelopes[0], recipient="nobody"))
        while "accepted" not in await read_frame(link):
            pass
    async with Link.open(socket, "bob") as link:
        frame = await read_frame(link)
        assert load_envelope(frame["envelope"]) == envelopes[1]


async def test_a_server_that_is_gone(root: Path) -> None:
    """Nobody waits for it."""
    async with run_coin_server(root) as path:
        opened = Link.open(path, "alice")
        link = await opened.__aenter__()
    with pytest.raises(DemoError, match="hung up"):
        await read_frame(link)
    await opened.__aexit__(None, None, None)
