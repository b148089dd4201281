"""What ``import aqm_db`` gives, and what it leaves for later."""

import subprocess
import sys

import pytest

import aqm_db
from aqm_db import sync

SYNCHRONOUS = ("GarbageCollector", "SecureVault", "SmartInventory", "StorageReporter")


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_the_synchronous_classes_are_exported(name: str) -> None:
    """They are those of aqm_db.sync."""
    assert getattr(aqm_db, name) is getattr(sync, name)


def test_every_name_that_is_exported_exists() -> None:
    """All of __all__, in order."""
    assert sorted(aqm_db.__all__) == aqm_db.__all__
    assert all(hasattr(aqm_db, name) for name in aqm_db.__all__)


def test_what_does_not_exist_is_an_attribute_error() -> None:
    """A typing error is told as everywhere else."""
    name = "SmartInventroy"
    with pytest.raises(AttributeError, match="module 'aqm_db' has no attribute 'SmartInventroy'"):
        getattr(aqm_db, name)


@pytest.mark.parametrize("use", ["aqm_db.sync.connect", "aqm_db.SecureVault"])
def test_the_synchronous_face_is_imported_when_it_is_used(use: str) -> None:
    """An asynchronous program pays nothing for it, and a synchronous one needs no other import."""
    program = f"""
import sys, aqm_db
assert not {{"aqm_db.sync", "aqm_db._io.redispy.sync_seam"}} & set(sys.modules)
{use}
assert "aqm_db.sync" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_integrity_check_is_imported_when_it_is_used() -> None:
    """A program that doesn't check pays nothing for it."""
    program = """
import sys, aqm_db
assert not {"aqm_db.integrity", "aqm_db._model.kinds", "aqm_db.integrity._walk"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
