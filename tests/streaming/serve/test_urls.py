"""Attacks by address: each must be refused before anything is connected to."""

import pytest

from streaming.serve.failures import RequestError
from streaming.serve.urls import check_host, is_public, join_url, parse_url

ALLOWED = ("media.example.org", "127.0.0.1", "2130706433", "localhost")


@pytest.mark.parametrize(
    "address",
    [
        "http://media.example.org/a.mp4",
        "ftp://media.example.org/a.mp4",
        "https://user@media.example.org/a.mp4",
        "https://media.example.org:x@evil.example/a.mp4",
        "https://media.example.org\\@evil.example/a.mp4",
        "https://evil.example\\.media.example.org/",
        "https://media.example.org /a.mp4",
        "https://media.example.org\t/a.mp4",
        "https://media.example.org\r\nHost: evil.example/",
        "https://media.example.org%00.evil.example/",
        "https://media.exaMple.org\u2024/",
        "https://[::1/a.mp4",
        "https://[::ffff:127.0.0.1]/a.mp4",
        "https://0x7f000001.evil_.example/",
        "https:///a.mp4",
        "https://media.example.org:99999/",
        "https://" + "a" * 5000,
        "//media.example.org/a.mp4",
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_refused(address: str) -> None:
    with pytest.raises(RequestError, match="the clip's address is refused") as refused:
        parse_url(address)
    assert refused.value.status == 403


def test_an_address_is_read_to_its_parts() -> None:
    url = parse_url("https://Media.Example.org.:8443/a%20b.mp4?x=1#t=3")
    assert (url.host, url.port, url.target) == ("media.example.org", 8443, "/a%20b.mp4?x=1")
    assert str(join_url(url, "../c")) == "https://media.example.org:8443/c"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "media.example.org.evil.example", "xmedia.example.org", "example.org",
     "169.254.169.254", "017700000001", "0x7f000001"],
)  # fmt: skip
def test_a_host_that_is_not_listed_is_refused_before_its_name_is_asked(host: str) -> None:
    def asked(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    with pytest.raises(RequestError, match="not among those"):
        check_host(parse_url(f"https://{host}/"), ALLOWED, asked)


PRIVATE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::",
    "fe80::1", "fe80::1%eth0", "fec0::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:0:0:0:0:80ff:fffe",
    "not an address", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_inside_is_not_public_however_it_is_written(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_an_address_outside_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["media.example.org", "localhost", "127.0.0.1", "2130706433"])
@pytest.mark.parametrize("found", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], []])
def test_every_address_of_a_host_must_be_public_even_of_one_that_is_listed(
    host: str, found: list[str]
) -> None:
    with pytest.raises(RequestError, match="an address that is not public"):
        check_host(parse_url(f"https://{host}/"), ALLOWED, lambda host, port: found)


def test_what_was_checked_is_what_is_connected_to() -> None:
    found = ["93.184.216.34", "93.184.216.35"]
    url = parse_url("https://media.example.org/")
    assert check_host(url, ALLOWED, lambda host, port: found) == "93.184.216.34"
