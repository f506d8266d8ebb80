"""Tokens of clients on the network: who they are for, what they permit, and the file that has them.

A token is 256 random bits. The file has its SHA-256 only: who reads the file cannot make the token of it. A
hash that is slow on purpose, such as scrypt, is for passwords, which can be guessed; 256 random bits cannot,
and with a slow one strangers could keep the server busy.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from libnetvirt.errors import AlreadyExists, NotFound, StateUnusable
from libnetvirt.suggestions import did_you_mean

Role = Literal["read", "operate", "admin"]
#: each role permits what those before it do
ROLES: Final[tuple[Role, ...]] = ("read", "operate", "admin")
#: how each token begins, so that people and scanners see what it is
PREFIX: Final = "netvirt_"
#: tokens in one file: each request is compared with all
MAX_TOKENS: Final = 1000
VERSION: Final = 1
#: largest file in bytes
MAX_BYTES: Final = 2**22

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")


def token_name(text: str) -> str:
    """A name for a token. Raises ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text[:40]!r} is not a name for a token: use up to 63 of A-Z, a-z, 0-9, ., _, @ and -, "
            "beginning with a letter or digit"
        )
    return text


class Token(BaseModel):
    """What is stored of a token. ``networks`` and ``connections``: what it is limited to, all if empty.
    ``created``, ``expires``: seconds since the epoch; None: never."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(token_name)]
    role: Role
    sha256: str = Field(pattern="^[0-9a-f]{64}$", repr=False)
    networks: tuple[str, ...] = ()
    connections: tuple[str, ...] = ()
    created: float
    expires: float | None = None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and time.time() >= self.expires


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = VERSION
    tokens: tuple[Token, ...] = Field(default=(), max_length=MAX_TOKENS)


def digest(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def matching(tokens: tuple[Token, ...], secret: str) -> Token | None:
    """The token with this secret. The time it takes tells nothing of the secrets that are stored."""
    wanted = digest(secret)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, wanted):
            found = token
    return found


def read(path: Path) -> tuple[Token, ...]:
    """All tokens of a file; none if there is no file. Raises StateUnusable."""
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StateUnusable(f"the tokens in {path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise StateUnusable(f"the tokens in {path} can be read or changed by others: chmod 600 {path}")
    try:
        # What it has is not quoted: an error is logged.
        return _Document.model_validate_json(content).tokens
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise StateUnusable(
            f"the tokens in {path} are damaged, or of a newer version"
            f"{' at ' + place if place else ''}: restore the file, or remove it and create the tokens again"
        ) from None


def create(
    path: Path,
    name: str,
    role: Role,
    *,
    networks: tuple[str, ...] = (),
    connections: tuple[str, ...] = (),
    expires: float | None = None,
) -> str:
    """Add a token; returns the secret, which is stored nowhere. Raises AlreadyExists, StateUnusable."""
    secret = PREFIX + secrets.token_urlsafe(32)
    token = Token(
        name=name, role=role, sha256=digest(secret), networks=networks, connections=connections,
        created=time.time(), expires=expires,
    )  # fmt: skip

    def add(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        if any(one.name == name for one in tokens):
            raise AlreadyExists(
                f"there is a token {name!r} already: choose another name, or 'netvirt token revoke {name}'"
            )
        if len(tokens) >= MAX_TOKENS:
            raise StateUnusable(f"{path} has {MAX_TOKENS} tokens, which is the limit: revoke some")
        return (*tokens, token)

    _change(path, add)
    return secret


def revoke(path: Path, name: str) -> None:
    """Remove a token. Raises NotFound, StateUnusable."""

    def remove(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        left = tuple(one for one in tokens if one.name != name)
        if len(left) == len(tokens):
            meant = did_you_mean(name, [one.name for one in tokens])
            raise NotFound(f"there is no token {name!r}:{meant} 'netvirt token list' shows them")
        return left

    _change(path, remove)


class Keeper:
    """The tokens of a file as they are now: what is written there holds at the next question."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._tokens: tuple[Token, ...] = ()

    def tokens(self) -> tuple[Token, ...]:
        """All tokens. Raises StateUnusable; then nobody is let in."""
        try:
            found = self.path.stat()
            seen: tuple[int, ...] = (
                found.st_ino,
                found.st_mtime_ns,
                found.st_ctime_ns,
                found.st_size,
                found.st_mode,
            )
        except FileNotFoundError:
            seen = ()
        except OSError as error:
            raise StateUnusable(f"the tokens in {self.path} cannot be read: {error.strerror}") from None
        if seen != self._seen:
            self._tokens = read(self.path)
            self._seen = seen
        return self._tokens


def _change(path: Path, change: Callable[[tuple[Token, ...]], tuple[Token, ...]]) -> None:
    try:
        with _locked(path.parent):
            document = _Document(tokens=change(read(path)))
            _write(path, json.dumps(document.model_dump(mode="json"), indent=2).encode() + b"\n")
    except FileNotFoundError:
        raise StateUnusable(
            f"there is no directory {path.parent} for the tokens: 'netvirt config files' tells how it is made"
        ) from None
    except OSError as error:
        raise StateUnusable(
            f"the tokens in {path} cannot be written: {error.strerror}: run this as the user who runs "
            "netvirtd, or as root"
        ) from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole. It belongs to the owner of the one before, else of the directory: root
    writes for the user who runs netvirtd."""
    owner = (path if path.exists() else path.parent).stat()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
