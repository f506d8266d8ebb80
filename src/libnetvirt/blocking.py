"""The blocking classes of the generic interface, derived from the coroutine ones.

Each connection has an event loop in a thread of its own, so that a controller inside it keeps working
between calls. Each method takes one line here: it has the signature and docstring of its coroutine, and
blocks until that returns.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, get_type_hints

from libnetvirt import aio
from libnetvirt.driver import Driver
from libnetvirt.errors import ConnectionClosed
from libnetvirt.event_loop import new_event_loop
from libnetvirt.events import Subscription
from libnetvirt.model import Event, Forecast, VirtualNetwork

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
C = TypeVar("C", bound=Callable[..., Any])


class Loop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = new_event_loop()
        # Nothing may be submitted to the loop once it was told to stop: it would wait forever.
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, name="libnetvirt", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether it is closed or being closed."""
        return self._closed

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result; blocks. An interrupt cancels the coroutine.

        Raises what the coroutine raises, and ConnectionClosed if the loop is closed before or meanwhile.
        """
        with self._lock:
            if self._closed:
                coroutine.close()
                raise ConnectionClosed("the connection is closed: open a new one")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            if not self._closed:
                raise
            raise ConnectionClosed("the connection was closed meanwhile: open a new one") from None
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel the tasks that still run, stop the loop and wait for its thread. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(_wind_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _wind_up() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class _Face(Protocol[A]):
    """A blocking object: the loop, and the coroutine object that does the work."""

    _loop: Loop
    _aio: A


def _blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Face[A], P], T]:
    """A method that runs ``method`` in the loop and blocks until it returns."""

    def call(self: _Face[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._aio, *args, **kwargs))

    return _documented(call, method)


def _to_network(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, aio.Network]],
) -> Callable[Concatenate[_Face[A], P], Network]:
    """The same for a method that returns a network: this one returns the blocking :class:`Network`."""

    def call(self: _Face[A], /, *args: P.args, **kwargs: P.kwargs) -> Network:
        return Network(self._loop, self._loop.run(method(self._aio, *args, **kwargs)))

    return _documented(call, method, returns=Network)


def _documented(call: C, method: Callable[..., Any], returns: Any = None) -> C:
    """``call`` with the name, docstring and signature of ``method``; ``returns``: the type, if it differs."""
    functools.update_wrapper(call, method)
    # inspect.signature() should not return that of the coroutine behind it.
    del vars(call)["__wrapped__"]
    resolved = get_type_hints(method) | ({} if returns is None else {"return": returns})
    call.__annotations__ = resolved
    signature = inspect.signature(method)
    parameters = [p.replace(annotation=resolved.get(p.name, p.empty)) for p in signature.parameters.values()]
    vars(call)["__signature__"] = signature.replace(
        parameters=parameters, return_annotation=resolved["return"]
    )
    return call


class Network:
    """A virtual network of a connection.

    Each change is atomic: it happens or, if an error is raised, leaves no trace. Methods that change the
    network return when the change is confirmed. All raise NetworkNotFound if the network is gone. All block.
    """

    def __init__(self, loop: Loop, network: aio.Network) -> None:
        self._loop = loop
        self._aio = network

    @property
    def uuid(self) -> str:
        """The network's uuid."""
        return self._aio.uuid

    def __repr__(self) -> str:
        return repr(self._aio)

    def if_match(self, seen: VirtualNetwork | str) -> Network:
        """The same network, for one change that is made only if the network is still as the caller has seen
        it: ``seen`` is its description then, or the ``etag`` of that. Asks nobody.

        Without it, changes by several callers are all made, one after the other. With it, the second raises
        PreconditionFailed, and nothing is done: ``conn.lookup("blue").if_match(seen).remove()``.
        """
        return Network(self._loop, self._aio.if_match(seen))

    description = _blocking(aio.Network.description)
    state = _blocking(aio.Network.state)
    statistics = _blocking(aio.Network.statistics)
    constraint_statistics = _blocking(aio.Network.constraint_statistics)
    paths = _blocking(aio.Network.paths)
    replace = _blocking(aio.Network.replace)
    remove = _blocking(aio.Network.remove)
    add_endpoint = _blocking(aio.Network.add_endpoint)
    modify_endpoint = _blocking(aio.Network.modify_endpoint)
    replace_endpoint = _blocking(aio.Network.replace_endpoint)
    remove_endpoint = _blocking(aio.Network.remove_endpoint)
    add_constraint = _blocking(aio.Network.add_constraint)
    modify_constraint = _blocking(aio.Network.modify_constraint)
    replace_constraint = _blocking(aio.Network.replace_constraint)
    remove_constraint = _blocking(aio.Network.remove_constraint)


class Connection:
    """An open session with one driver. Its methods block; they may be called from any thread."""

    def __init__(self, loop: Loop, connection: aio.Connection, *, owner: bool = True) -> None:
        """``owner``: whether the loop ends with this connection."""
        self._loop = loop
        self._aio = connection
        self._owner = owner

    @property
    def uri(self) -> str:
        """The URI it was opened with."""
        return self._aio.uri

    @property
    def driver(self) -> Driver:
        """The driver; its coroutines run in the connection's own loop. Raises ConnectionClosed."""
        return self._aio.driver

    create = _to_network(aio.Connection.create)
    lookup = _to_network(aio.Connection.lookup)
    apply = _blocking(aio.Connection.apply)
    create_all = _blocking(aio.Connection.create_all)
    apply_all = _blocking(aio.Connection.apply_all)
    remove_all = _blocking(aio.Connection.remove_all)
    check = _blocking(aio.Connection.check)
    descriptions = _blocking(aio.Connection.descriptions)
    substrate = _blocking(aio.Connection.substrate)
    capabilities = _blocking(aio.Connection.capabilities)
    rules = _blocking(aio.Connection.rules)
    verify = _blocking(aio.Connection.verify)
    explain = _blocking(aio.Connection.explain)
    repair = _blocking(aio.Connection.repair)
    reload = _blocking(aio.Connection.reload)
    adopt = _blocking(aio.Connection.adopt)
    forget = _blocking(aio.Connection.forget)
    recover = _blocking(aio.Connection.recover)
    backup = _blocking(aio.Connection.backup)
    metrics = _blocking(aio.Connection.metrics)

    def networks(self) -> list[Network]:
        """All networks, ordered by creation."""
        return [Network(self._loop, n) for n in self._loop.run(self._aio.networks())]

    def rehearsal(self, *, joint: bool = False) -> Connection:
        return Connection(self._loop, self._aio.rehearsal(joint=joint), owner=False)

    rehearsal.__doc__ = aio.Connection.rehearsal.__doc__

    @property
    def forecast(self) -> Forecast | None:
        """In a rehearsal, what the last operation would change."""
        return self._aio.forecast

    def events(self, *, after: str = "", since: float | None = None) -> Iterator[Event]:
        """Events from now on. Iterating blocks until the next one; it ends when the connection is closed.

        Returns when subscribed: no event of what is done afterwards is missed. Raises ConnectionFailed.

        ``after``, ``since``: as for :meth:`libnetvirt.aio.Connection.events`.
        """

        async def subscribe() -> AsyncIterator[Event]:
            source = self._aio.events(after=after, since=since)
            if isinstance(source, Subscription):
                await source.begin()
            return source

        return self._follow(self._loop.run(subscribe()))

    def _follow(self, source: AsyncIterator[Event]) -> Iterator[Event]:
        async def following() -> Event | None:
            return await anext(source, None)

        try:
            while (event := self._loop.run(following())) is not None:
                yield event
        except ConnectionClosed:
            return

    def close(self) -> None:
        """Close the connection. Networks of a durable driver go on forwarding. May be called twice."""
        if self._loop.closed or not self._owner:
            return
        try:
            self._loop.run(self._aio.close())
        finally:
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open(uri: str | None = None) -> Connection:
    """Open a connection to the driver that ``uri`` (default: ``$LIBNETVIRT_URI``) names.

    Returns when it can be used. Raises InvalidURI, DriverNotFound, ConnectionFailed.
    """
    loop = Loop()
    try:
        return Connection(loop, loop.run(aio.open(uri)))
    except BaseException:
        loop.close()
        raise
