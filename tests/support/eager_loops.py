"""Event loops whose tasks run until they wait, as soon as they are made (Python 3.12)."""

import asyncio
import sys

if sys.version_info >= (3, 12):

    class _EagerPolicy(asyncio.DefaultEventLoopPolicy):
        """Makes the event loops of tests, of fixtures and of ``asyncio.run``."""

        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            """See the base class."""
            loop = super().new_event_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            return loop

    def run_eagerly() -> None:
        """Lets all event loops that are made from now on run tasks eagerly."""
        asyncio.set_event_loop_policy(_EagerPolicy())

else:

    def run_eagerly() -> None:
        """There is no such thing."""
        message = "--eager takes Python 3.12"
        raise RuntimeError(message)
