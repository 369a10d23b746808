"""Single values, as an operator may write them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.conf.values import AbsolutePath, Address, Duration, Loopback, Mode, Servers, Size
from relay.settings import Server


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0.2", 0.2),
        (".5", 0.5),
        ("250ms", 0.25),
        ("5s", 5.0),
        ("15m", 900.0),
        ("2h", 7200.0),
        ("30 d", 2592000.0),
    ],
)
def test_a_duration_is_seconds_or_has_a_suffix(text: str, seconds: float) -> None:
    """A plain number is seconds; ms, s, m, h and d are understood."""
    assert Duration()(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1", "1e3", "nan", "inf", "5 min", "5M", "1.2.3", "1h30m", "\u0665", "3651d"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else raises, and so does what no wait should ever be."""
    with pytest.raises(ValueError, match=r"duration|years"):
        Duration()(text)


def test_a_duration_below_its_least_is_refused() -> None:
    """The least value is part of the range."""
    assert Duration(least="10ms")("0.01") == 0.01
    with pytest.raises(ValueError, match="less than 10ms"):
        Duration(least="10ms")("0.009")


@given(st.floats(0, 1e8, allow_nan=False).map(lambda seconds: round(seconds, 6)))
def test_a_plain_decimal_is_taken_as_it_stands(seconds: float) -> None:
    """Any decimal number of seconds is read back exactly."""
    assert Duration()(f"{seconds:f}") == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1048576", 2**20), ("3KiB", 3072), ("16 MiB", 2**24), ("1GiB", 2**30)]
)
def test_a_size_is_bytes_or_has_a_suffix(text: str, size: int) -> None:
    """A plain number is bytes; KiB, MiB and GiB are understood."""
    assert Size()(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5MiB", "1MB", "1M", "MiB", "1mib", "9" * 25])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Anything else raises: MB in particular, which means two things."""
    with pytest.raises(ValueError, match=r"size|more than"):
        Size()(text)


def test_a_size_keeps_to_its_range() -> None:
    """Both ends of the range are allowed, what is beyond them is not."""
    kind = Size(least="1", most="63MiB")
    assert (kind("1"), kind("63MiB")) == (1, 63 * 2**20)
    for text in ("0", "66060289"):
        with pytest.raises(ValueError, match="than"):
            kind(text)


@pytest.mark.parametrize(("text", "mode"), [("0660", 0o660), ("660", 0o660), ("0o600", 0o600), ("0777", 0o777)])
def test_a_mode_is_octal(text: str, mode: int) -> None:
    """A mode is read in octal, with or without its leading zero."""
    assert Mode()(text) == mode


@pytest.mark.parametrize("text", ["", "66", "888", "4755", "rw-rw----", "0x1b0"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    """Anything but three octal digits raises: a socket has no setuid bit."""
    with pytest.raises(ValueError, match="octal mode"):
        Mode()(text)


def test_a_path_is_absolute() -> None:
    """A path from the root is taken; a relative one, a directory and none are refused."""
    assert AbsolutePath()("/run/relay/relay.sock") == Path("/run/relay/relay.sock")
    for text in ("", "relay.sock", "./relay.sock", "/run/relay/"):
        with pytest.raises(ValueError, match="absolute path"):
            AbsolutePath()(text)


def test_a_socket_path_fits_into_its_address() -> None:
    """A path of 107 bytes can be bound, one of 108 is refused; bytes count, not characters."""
    longest = "/" + "x" * 106
    assert AbsolutePath(107)(longest) == Path(longest)
    for text in (longest + "x", "/" + "é" * 54):
        with pytest.raises(ValueError, match="107 bytes"):
            AbsolutePath(107)(text)


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("127.0.0.1:4730", [Server("127.0.0.1", 4730)]),
        ("g1.example", [Server("g1.example", 4730)]),
        ("[::1]:99, [2001:db8::1]", [Server("::1", 99), Server("2001:db8::1", 4730)]),
        ("a:1,\n  b:2,", [Server("a", 1), Server("b", 2)]),
    ],
)
def test_servers_keep_their_order(text: str, servers: list[Server]) -> None:
    """Servers are separated by commas, over several lines too; without a port it is Gearman's."""
    assert Servers()(text) == tuple(servers)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "at least one"),
        (" , ", "at least one"),
        ("::1", "not a server"),
        ("::1:4730", "not a server"),
        ("a:b", "not a server"),
        ("a b:1", "not a server"),
        ("http://a:1", "not a server"),
        ("[a]:1", "At least 3 parts"),
        ("[]:1", "Address cannot be empty"),
        ("a:0", "no port"),
        ("a:65536", "no port"),
        ("a,b,a:4730", "named twice"),
    ],
)
def test_what_is_no_server_is_refused(text: str, why: str) -> None:
    """The error says what is wrong, and names the text."""
    with pytest.raises(ValueError, match=why):
        Servers()(text)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", None),
        ("127.0.0.1:4730", Server("127.0.0.1", 4730)),
        ("127.3.2.1:1", Server("127.3.2.1", 1)),
        ("[::1]:4730", Server("::1", 4730)),
        ("localhost:4730", Server("localhost", 4730)),
    ],
)
def test_loopback_is_this_host(text: str, where: Server | None) -> None:
    """An address of loopback with its port, or nothing."""
    assert Loopback()(text) == where


@pytest.mark.parametrize(
    "text", ["0.0.0.0:4730", "10.0.0.1:4730", "[::]:4730", "example:4730", "127.0.0.1", "127.0.0.1:0"]
)
def test_what_is_not_loopback_is_refused(text: str) -> None:
    """Casts are taken from this host only: any other address, and one without a port, is an error."""
    with pytest.raises(ValueError, match=r"loopback|host:port"):
        Loopback()(text)


def test_types_are_equal_by_their_range() -> None:
    """oslo.config compares types when an option is registered twice."""
    assert Duration("1s") == Duration("1s")
    assert Duration("1s") != Duration("2s")
    assert Size() != Duration()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", None),
        ("0.0.0.0:9107", Server("0.0.0.0", 9107)),
        ("[::]:9107", Server("::", 9107)),
        ("metrics.example:1", Server("metrics.example", 1)),
    ],
)
def test_an_address_to_listen_on_may_be_any(text: str, where: Server | None) -> None:
    """host:port or [v6]:port, not on loopback only; empty is nowhere."""
    assert Address()(text) == where


@pytest.mark.parametrize("text", ["9107", ":9107", "host", "host:", "host:0", "host:65536", "a b:1"])
def test_an_address_without_host_or_port_is_none(text: str) -> None:
    """Refused with the text in it."""
    with pytest.raises(ValueError, match="is not host:port"):
        Address()(text)
