"""A private, durable Valkey server in a directory of the user's.

It listens on a unix socket that only its user can reach, and on no TCP port. Every process that
opens the directory shares one server; the last that closes it stops it.

What lies in the directory::

    aqm_db.lock      marks it as ours; locked while the server is started or stopped
    aqm_db.users     locked, shared, by everyone who has the directory open
    aqm_db.server    locked by the server while it lives; its process id
    aqm_db.alive     a pipe that all of these hold, by which Linux tells the server of the last
    aqm_db.sock      where clients connect, while the server runs
    aqm_db.log       what the server wrote since it started; aqm_db.log.1 is what was before
    aqm_db.ballast   eight megabytes of noise, given up for what a full disk didn't take
    appendonlydir/   the data; what had to be cut off of a file is beside it (NAME.cut-1)

The locks are ``flock`` locks: the kernel drops them when their process dies, so a crash leaves
nothing to clean up. A server whose last user died, in whatever way, ends by itself on Linux;
elsewhere, and on a file system without pipes, it waits for the next to open the directory.
"""

import importlib.util
import logging
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from aqm_db.errors import EmbeddedServerError

from ._directory import prepare_directory
from ._files import list_cut_off
from ._log import trim_log
from ._server import SETTINGS
from ._share import Share
from ._space import give_up_piece, measure_space

__all__ = ["SETTINGS", "Disk", "EmbeddedServer"]

_logger = logging.getLogger("aqm_db.embedded")


class Disk(NamedTuple):
    """What a database has on its disk.

    Attributes:
        free: bytes that are left.
        wanted: bytes that should be left: a rewrite makes a second copy of the data.
        cut_off: what files ended with that weren't whole, after the machine crashed for example.
    """

    free: int
    wanted: int
    cut_off: tuple[Path, ...]


class EmbeddedServer:
    """A share in the server of one directory.

    Its methods block: an asyncio program calls them with ``asyncio.to_thread``. Use it as a context
    manager, or call :meth:`close`; a share that is forgotten is closed when it is garbage collected
    or when the interpreter exits. After ``fork`` it stays the parent's: closing it in the child
    leaves the server alone.
    """

    def __init__(self, share: Share) -> None:
        self._share = share
        self._end = weakref.finalize(self, _give_back, share)

    @classmethod
    def open(cls, directory: str | os.PathLike[str], *, start_timeout: float = 30.0) -> Self:
        """Start the server of a directory, or join the one that runs there.

        Args:
            directory: where the data is kept. It is created, with its parents, if it isn't there;
                ``~`` is the user's home.
            start_timeout: seconds that the server may take to answer; it reads all data first.

        Returns:
            A share in the running server.

        Raises:
            EmbeddedServerError: this platform has no such server, its wheel isn't installed, the
                directory can't be used (a file, another user's, not empty and not a database), or
                the server doesn't start.
        """
        if importlib.util.find_spec("fcntl") is None:
            raise EmbeddedServerError("the embedded server needs Linux or macOS")
        try:
            path = Path(directory).expanduser().resolve()
        except (OSError, RuntimeError, ValueError) as error:
            # No such home, a circle of links, or no path at all.
            raise _make_error(directory, error) from error
        try:
            prepare_directory(path)
            share = Share(path)
            share.take(start_timeout)
        except OSError as error:
            raise _make_error(directory, error) from error
        server = cls(share)
        disk = server.examine_disk()
        if disk.free < disk.wanted:
            _logger.warning(
                "disk_space_low",
                extra={"directory": str(path), "free": disk.free, "wanted": disk.wanted},
            )
        return server

    @property
    def directory(self) -> Path:
        """Where the data is kept: absolute, without symbolic links."""
        return self._share.directory

    @property
    def socket_path(self) -> Path:
        """Where clients connect: ``redis.asyncio.Redis(unix_socket_path=...)``."""
        return self._share.socket_path

    def revive(self, *, timeout: float = 5.0) -> None:
        """Start the server again if it has died; databases do so by themselves.

        Of all threads and processes one starts it, and the others wait for it.

        Args:
            timeout: seconds that it may take; a server that takes longer goes on reading its data.

        Raises:
            EmbeddedServerError: the share was closed, also in the process that forked this one;
                or the server doesn't start.
        """
        try:
            self._share.revive(timeout)
        except OSError as error:
            raise _make_error(self.directory, error) from error

    def trim_log(self) -> None:
        """Cut the server's log if it has grown too long; its last lines stay."""
        trim_log(self.directory)

    def examine_disk(self) -> Disk:
        """How much room there is, and what had to be cut off.

        Raises:
            EmbeddedServerError: the directory can't be used any more.
        """
        try:
            space = measure_space(self.directory)
        except OSError as error:
            raise _make_error(self.directory, error) from error
        return Disk(space.free, space.wanted, tuple(list_cut_off(self.directory)))

    def relieve(self) -> None:
        """Give the server some room of the ballast, if it refused a write since the disk is full.

        What it acknowledged before it noticed is written then, and survives its death. It costs
        two system calls.
        """
        if give_up_piece(self.directory):
            _logger.warning("disk_full", extra={"directory": str(self.directory)})

    def close(self) -> None:
        """Give the share back; the last one stops the server, in at most some ten seconds.

        Closing again does nothing, and neither a server that died nor one that doesn't end when
        it is asked makes this raise.

        Raises:
            EmbeddedServerError: the disk is full, or fails, and what the server acknowledged isn't
                in its file. The share is given back, and the server goes on: whoever opens the
                directory joins it, finds all that was acknowledged, and stops it once there's
                room. A share that is closed by the end of its program logs this.
        """
        if self._end.detach():
            self._share.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _give_back(share: Share) -> None:
    """What becomes of a share that nobody closed, at the end of the program for example."""
    try:
        share.give_back()
    except EmbeddedServerError as error:
        # Nobody is there to catch it.
        _logger.log(logging.ERROR, "server_goes_on", extra={"error": str(error)})


def _make_error(directory: str | os.PathLike[str], error: Exception) -> EmbeddedServerError:
    return EmbeddedServerError(f"the embedded server can't use {os.fspath(directory)!r}: {error}")
