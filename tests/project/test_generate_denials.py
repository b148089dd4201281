"""What ``acl_rules`` says of operations that it denies is what its generator writes."""

from pathlib import Path

import pytest

from aqm_db.acl import acl_rules
from generate_denials import FILE, generated, list_denied, main


def test_the_docstring_is_what_is_generated() -> None:
    """Nothing is out of date, and every operation is named."""
    text = FILE.read_text("utf-8")
    assert generated(text) == text
    assert main(["--check"]) == 0
    words = " ".join((acl_rules.__doc__ or "").split())
    for name in list_denied(acl_rules("a")):
        first, _, rest = name.partition(" ")
        assert f"``{first}``{' ' * bool(rest)}{rest}" in words


def test_a_list_that_is_out_of_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is shown with --check, and mended without."""
    copy = tmp_path / "acl.py"
    text = FILE.read_text("utf-8")
    changed = text.replace("``check``, ``iter_owners``", "``iter_owners``")
    assert changed != text
    copy.write_text(changed, "utf-8")
    assert main(["--check"], copy) == 1
    assert (
        "+            Without it, these are denied, and change nothing: ``check``, ``iter_owners``"
        in capsys.readouterr().out
    )
    assert copy.read_text("utf-8") == changed
    assert main([], copy) == 0
    assert copy.read_text("utf-8") == text


def test_a_text_without_the_list() -> None:
    """The sentence is missed, rather than left out."""
    with pytest.raises(ValueError, match="no single sentence"):
        generated("nothing of it")
