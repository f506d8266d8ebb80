"""Options of connection URIs: parsed, bounded and described by the fields of one model."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from libnetvirt.driver import DRIVERS, Driver, installed, load
from libnetvirt.errors import InvalidURI
from libnetvirt.model import Encapsulation
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.settings import DriverSettings, File, OneOf, Option, Owner, Shown, parsed_by
from libnetvirt.uri import URI


class Panel(DriverSettings):
    """One option of each kind."""

    interval: float = Field(2.0, ge=0.1, le=60, description="seconds between two looks")
    port_count: int = Field(4, ge=1, le=100_000, description="ports")
    shape: Annotated[str, OneOf(("ring", "star"))] = Field("ring", description="links")
    encapsulation: Annotated[Encapsulation | None, Shown(default="the preset's")] = Field(
        None, description="tunnels"
    )
    certificate: File = Field(None, description="ours")
    owner: Owner = Field("us", description="the mark of rows")
    databases: Annotated[tuple[Remote, ...], parsed_by(Remote.parse_all), Shown("REMOTE,…")] = Field(
        Remote.parse_all("unix:/a,unix:/b"), alias="nb", description="where rows are"
    )


def parsed(options: str) -> Panel:
    return Panel.from_uri(URI.parse(f"panel:///{options}"))


def test_options_are_parsed_and_the_others_have_their_defaults() -> None:
    assert parsed("") == Panel.model_validate({})
    found = parsed("?interval=1e1&port-count=7&shape=star&encapsulation=mpls&nb=tcp:a:1&certificate=/c")
    assert (found.interval, found.port_count, found.shape) == (10.0, 7, "star")
    assert found.encapsulation is Encapsulation.MPLS
    assert found.databases == (Remote("tcp", host="a", port=1),)
    assert found.given("certificate", "owner") == {"certificate": "/c", "owner": "us"}
    assert parsed("").given("certificate") == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("interval=soon", "option interval='soon' in {uri!r}: use a number from 0.1 to 60"),
        ("interval=60.1", "option interval='60.1' in {uri!r}: use a number from 0.1 to 60"),
        ("interval=nan", "option interval='nan' in {uri!r}: use a number from 0.1 to 60"),
        ("interval=inf", "option interval='inf' in {uri!r}: use a number from 0.1 to 60"),
        ("port-count=1.5", "option port-count='1.5' in {uri!r}: use a whole number from 1 to 100000"),
        ("port-count=0", "option port-count='0' in {uri!r}: use a whole number from 1 to 100000"),
        ("shape=torus", "option shape='torus' in {uri!r}: use one of ring, star"),
        ("encapsulation=gre", "option encapsulation='gre' in {uri!r}: use one of native, vlan, mpls"),
        ("owner=", "option owner='' in {uri!r}: use 1 to 63 printable characters"),
        ("owner=" + 64 * "x", "use 1 to 63 printable characters"),
        ("owner=%07", "use 1 to 63 printable characters"),
        ("nb=x", "option nb in {uri!r}: 'x' is not a database's address"),
        ("port_count=7", "unknown option port_count in {uri!r}: did you mean 'port-count'? Known are cert"),
        ("weight=7", "unknown option weight in {uri!r}: known are certificate: ours: FILE; "),
        ("databases=unix:/a", "unknown option databases in {uri!r}"),
    ],
)
def test_an_error_names_the_option_what_was_found_and_what_is_allowed(options: str, message: str) -> None:
    with pytest.raises(InvalidURI) as caught:
        parsed(f"?{options}")
    assert message.format(uri=f"panel:///?{options}") in str(caught.value)
    assert len(caught.value.faults) == 1


def test_all_errors_of_a_uri_are_reported_at_once() -> None:
    with pytest.raises(InvalidURI) as caught:
        parsed("?interval=0&owner=&colour=red&nb=x&weight=7")
    first, *others = [fault.text for fault in caught.value.faults]
    assert first.startswith("option interval='0' in 'panel:///?interval=0&owner=&colour=red")
    assert others[0] == "option owner='': use 1 to 63 printable characters"
    assert others[1].startswith("option nb: 'x' is not a database's address")
    assert others[2].startswith("unknown option colour, weight: known are ")
    assert len(others) == 3


def test_options_are_described_by_their_fields() -> None:
    described = {option.name: option for option in Panel.options()}
    assert list(described) == [
        "interval", "port-count", "shape", "encapsulation", "certificate", "owner", "nb"
    ]  # fmt: skip
    assert described["interval"] == Option(
        "interval", "seconds between two looks", "2", "a number from 0.1 to 60"
    )
    assert described["encapsulation"].default == "the preset's"
    assert described["certificate"] == Option("certificate", "ours", "", "FILE")
    assert described["nb"].default == "unix:/a,unix:/b"
    assert str(described["shape"]) == "shape: links: one of ring, star (default ring)"


def test_a_driver_without_options_refuses_all() -> None:
    assert Driver.settings.options() == ()
    with pytest.raises(InvalidURI, match=r"unknown option x in .*: known are none"):
        Driver.settings.from_uri(URI.parse("panel:///?x=1"))


@pytest.mark.parametrize("name", sorted(installed(DRIVERS)))
def test_every_option_of_every_driver_is_described(name: str) -> None:
    options = load(URI(name)).settings.options()
    assert options
    assert not [o.name for o in options if not (o.name and o.meaning and o.values)]
