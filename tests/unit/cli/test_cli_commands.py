"""What each command prints, and how it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest_types import Commands
from ruamel.yaml import YAML

import libnetvirt
from libnetvirt import formats
from libnetvirt.cli import events, main, physical
from libnetvirt.errors import CODES
from libnetvirt.model import Event, Link
