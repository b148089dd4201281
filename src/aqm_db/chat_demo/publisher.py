"""A person's own coins: minted and published as others claim them."""

from functools import partial
from uuid import uuid4

from aqm_db import AsyncSecureVault, coins
from aqm_db.minter import AsyncMinter, FreshCoin
from aqm_db.types import CoinCategory, NewKey

from .link import Link
from .person import Person


class Publisher:
    """Keeps the server supplied.

    Args:
        person: whose coins.
        vault: theirs.
        link: to the server.
    """

    def __init__(self, person: Person, vault: AsyncSecureVault, link: Link) -> None:
        self._minter = AsyncMinter(vault, partial(mint_coin, person))
        self._link = link

    async def restock(self) -> None:
        """Mints what the server lacks, and publishes what isn't yet.

        A kill in between leaves coins on the minter's list: the next call publishes them, again
        perhaps, and the server takes each once.
        """
        await self._minter.sync(self._link.count, self._link.publish)


def mint_coin(person: Person, tier: CoinCategory) -> FreshCoin:
    """Makes a coin, and seals its private half."""
    key_id = f"{person.name}-{uuid4().hex}"
    coin = coins.mint(person.identity, key_id, tier)
    version = coin.public.coin_version
    sealed = coins.seal(
        coin.private_key,
        person.vault_key,
        owner=person.name,
        key_id=key_id,
        coin_category=tier,
        coin_version=version,
    )
    return FreshCoin(
        NewKey(
            key_id,
            tier,
            sealed.encrypted_blob,
            sealed.encryption_iv,
            sealed.auth_tag,
            version,
        ),
        coin.public.public_key,
        coin.public.signature,
    )
