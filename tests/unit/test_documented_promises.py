"""What the pages say is what the sources hold: numbers, features, commands, and the tests that pages name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from libnetvirt import events
from libnetvirt.cli.main import build
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.engine import transaction, tunnel_checks
from libnetvirt.controller.intent import labels, locator, neighbours
from libnetvirt.controller.ondemand import flow_templates, flows
from libnetvirt.controller.packetin import deferral, dispatcher, fair_queue, neighbour_resolution
from libnetvirt.controller.qos import capacities, meters
from libnetvirt.controller.topology import discovery, latency, link_probes
from libnetvirt.daemon import warnings
from libnetvirt.driver import DRIVERS, installed, load
from libnetvirt.drivers.openflow import runtime
from libnetvirt.drivers.openflow.execution import audit, fair_lock, pair_audit
from libnetvirt.drivers.openflow.southbound import backoff, claims, owners, session, tls
from libnetvirt.drivers.ovn import compiler
from libnetvirt.formats import limits
from libnetvirt.model import cross_checks
from libnetvirt.openflow import channel
from libnetvirt.ovsdb import database
from libnetvirt.uri import URI

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine",
         10: "ten"}  # fmt: skip
EIGHTH = {1 / 8: "an eighth"}

#: page -> what it says, with the numbers of the sources
SAID = {
    "README.md": [
        f"at least {pipeline_overhead} bytes larger" for pipeline_overhead in ("eight",)
    ],
}
