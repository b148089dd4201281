"""What is a coin, and what is none."""

from typing import Any

import pytest

from aqm_db.chat_demo.published_coin import load_coin
from aqm_db.errors import InvalidCoinError

COIN = {
    "key_id": "k",
    "coin_category": "BRONZE",
    "public_key": "AA==",
    "signature": "",
    "expires_at": 1,
}


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("coin", "Expected `object`, got `str`"),
        ({"key_id": "k"}, "Object missing required field `coin_category`"),
        ({**COIN, "owner": "bob"}, "Object contains unknown field `owner`"),
        ({**COIN, "key_id": 5}, "Expected `str`, got `int` - at `$.key_id`"),
        ({**COIN, "expires_at": True}, "Expected `int`, got `bool` - at `$.expires_at`"),
        ({**COIN, "expires_at": 1.0}, "Expected `int`, got `float` - at `$.expires_at`"),
        ({**COIN, "public_key": "AA="}, "Invalid base64 encoded string - at `$.public_key`"),
        ({**COIN, "signature": "AA==\n"}, "Invalid base64 encoded string - at `$.signature`"),
    ],
    ids=str,
)
def test_what_is_no_coin(value: Any, wrong: str) -> None:
    """It's said which field is missing, unknown or malformed."""
    load_coin("bob", COIN)
    with pytest.raises(InvalidCoinError) as refused:
        load_coin("bob", value)
    assert str(refused.value) == f"this is no coin: {wrong}"
