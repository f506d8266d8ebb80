"""The configuration of netvirtd: a TOML file, its keys as models, and its faults with their lines."""

from libnetvirt.configuration.file import load, parse
from libnetvirt.configuration.keys import TABLES, Key, effective, keys, toml_value
from libnetvirt.configuration.models import (
    PATH,
    SOCKET,
    Configuration,
    ConnectionSettings,
    LogSettings,
    UnixListener,
)

__all__ = [
    "PATH",
    "SOCKET",
    "TABLES",
    "Configuration",
    "ConnectionSettings",
    "Key",
    "LogSettings",
    "UnixListener",
    "effective",
    "keys",
    "load",
    "parse",
    "toml_value",
]
