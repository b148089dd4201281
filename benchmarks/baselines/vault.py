"""The variants of the vault's operations, over redis.asyncio."""

from functools import partial
from typing import Any

from redis.asyncio import Redis

from aqm_db import AsyncSecureVault, config
from aqm_db._model.keys import Keys
from aqm_db.types import NewKey
from benchmarks.baselines.redis import now_ms
from benchmarks.measuring import checks, names
from benchmarks.measuring.links import Link
from benchmarks.measuring.loops import Call, Variant
from benchmarks.measuring.scripts import evalsha, in_parts, keepings, pipelined, recorded
from benchmarks.measuring.stock import Secret, keeping, kept, new_secret

_KEYS = Keys()


def library_keep(vault: AsyncSecureVault) -> Variant:
    """The library's ``store_key``."""

    async def prepare(count: int) -> list[Call]:
        return [keeping(vault, new_secret("GOLD")) for _ in range(count)]

    return Variant(names.LIBRARY, prepare, checks.all_true)


def batch_keep(vault: AsyncSecureVault, size: int) -> Variant:
    """The library, so many private halves in one call."""

    async def prepare(count: int) -> list[Call]:
        secrets = [new_secret("GOLD") for _ in range(count)]
        keys = [NewKey(each.key_id, each.tier, each.blob, each.iv, each.tag) for each in secrets]
        return [partial(vault.store_keys, part) for part in in_parts(keys, size)]

    return Variant(names.BATCH, prepare, checks.all_stored)


def evalsha_keep(link: Link) -> Variant:
    """The library's script, sent by the default client."""

    async def prepare(count: int) -> list[Call]:
        return [evalsha(link.vault_client, each) for each in await keepings(link, count)]

    return Variant(names.EVALSHA, prepare, checks.script_ok)


def pipeline_keep(link: Link, size: int) -> Variant:
    """The library's script, so many to a pipeline, one pipeline after another."""
    return pipelined(link.vault_client, partial(keepings, link), checks.script_ok, size)


def multi_keep(client: Redis) -> Variant:
    """The specification's check and transaction."""

    async def call(secret: Secret) -> bool:
        row = _KEYS.vault(secret.key_id)
        if await client.exists(row):
            return False
        fields: dict[Any, Any] = {
            "coin_category": secret.tier,
            "encrypted_blob": secret.blob,
            "encryption_iv": secret.iv,
            "auth_tag": secret.tag,
            "coin_version": "kyber768_v1",
            "status": "ACTIVE",
            "created_at": now_ms(),
        }
        async with client.pipeline() as transaction:
            transaction.hset(row, mapping=fields)
            transaction.expire(row, config.VAULT_KEY_TTL_SECONDS)
            transaction.hincrby(_KEYS.vault_stats, "active_gold", 1)
            await transaction.execute()
        return True

    async def prepare(count: int) -> list[Call]:
        return [partial(call, new_secret("GOLD")) for _ in range(count)]

    return Variant(names.MULTI, prepare, checks.all_true)


def library_burn(vault: AsyncSecureVault) -> Variant:
    """The library's ``burn_key``."""

    async def prepare(count: int) -> list[Call]:
        return [partial(vault.burn_key, key_id) for key_id in await kept(vault, count)]

    return Variant(names.LIBRARY, prepare, checks.all_true)


def evalsha_burn(link: Link) -> Variant:
    """The library's script, sent by the default client."""
    client = link.vault_client

    async def prepare(count: int) -> list[Call]:
        key_ids = await kept(link.vault, count)
        scripts = await recorded(
            AsyncSecureVault(client),
            client,
            lambda vault: [partial(vault.burn_key, key_id) for key_id in key_ids],
        )
        return [evalsha(client, each) for each in scripts]

    return Variant(names.EVALSHA, prepare, checks.script_ok)


def multi_burn(link: Link) -> Variant:
    """The specification's check and transaction; the ciphertext stays for the grace time."""
    client = link.vault_client

    async def call(key_id: str) -> bool:
        row = _KEYS.vault(key_id)
        if await client.hget(row, "status") != b"ACTIVE":
            return False
        async with client.pipeline() as transaction:
            transaction.hset(row, "status", "BURNED")
            transaction.expire(row, config.VAULT_BURN_GRACE_SECONDS)
            transaction.hincrby(_KEYS.vault_stats, "active_gold", -1)
            transaction.hincrby(_KEYS.vault_stats, "total_burned", 1)
            await transaction.execute()
        return True

    async def prepare(count: int) -> list[Call]:
        return [partial(call, key_id) for key_id in await kept(link.vault, count)]

    return Variant(names.MULTI, prepare, checks.all_true)


def library_fetch(vault: AsyncSecureVault) -> Variant:
    """The library's ``fetch_key``."""

    async def prepare(count: int) -> list[Call]:
        return [partial(vault.fetch_key, key_id) for key_id in await kept(vault, count)]

    return Variant(names.LIBRARY, prepare, checks.all_true)


def hgetall_fetch(link: Link) -> Variant:
    """The command that the specification reads a row with, its reply left as it is."""

    async def prepare(count: int) -> list[Call]:
        rows = [_KEYS.vault(key_id) for key_id in await kept(link.vault, count)]
        return [partial(link.vault_client.hgetall, row) for row in rows]

    return Variant(names.HGETALL, prepare, checks.all_true)
