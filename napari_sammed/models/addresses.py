"""Which addresses a download may come from: no redirect leads it into the network that this machine stands in."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from napari_sammed.errors import FetchError

if TYPE_CHECKING:
    import requests

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Reach(IntEnum):
    """Who can be reached at an address."""

    NOBODY = 0
    """Services that machines offer to themselves (169.254.169.254 in clouds), and what is no address of one machine."""
    MACHINE = 1
    NETWORK = 2
    WORLD = 3


def check_address(url: str) -> None:
    """Refuse to download from an address that is not https, but http to this machine, or that no file is at.

    Raises
    ------
    FetchError
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise FetchError(f"{url} is not an https address")
    if reach(url) == Reach.NOBODY:
        raise FetchError(f"{url} leads to an address that files are not downloaded from")


def redirects_of(url: str) -> Callable[..., None]:
    """What looks at every response to a request for `url`, as a hook of `requests`, and stops bad redirects.

    A redirect may lead to https, or from this machine to it; never closer to this machine than `url` itself is, so
    that somebody in the world has nothing fetched in the user's network. FetchError before anybody is connected to.
    """
    begun = reach(url)

    def look(response: requests.Response, *_: Any, **__: Any) -> None:
        if not response.is_redirect:
            return
        target = urljoin(response.url, response.headers["location"])
        parts = urlsplit(target)
        there = reach(target)
        at_home = begun == there == Reach.MACHINE
        if parts.scheme != "https" and not (parts.scheme == "http" and at_home):
            raise FetchError(f"{url} redirects to {target}, which is not an https address")
        if there < begun or there == Reach.NOBODY:
            raise FetchError(f"{url} redirects to {target}, which is in a network that it is not in itself")

    return look


def reach(url: str) -> Reach:
    """Who is reached at the address of a URL; the nearest, if its name stands for several addresses.

    A name that is not known here counts as one of the world: only a proxy can lead to it.
    """
    parts = urlsplit(url)
    return min((_reach(ip) for ip in _addresses(parts.hostname or "")), default=Reach.WORLD)


def _addresses(host: str) -> list[_IP]:
    with contextlib.suppress(ValueError):
        return [ipaddress.ip_address(host)]
    try:
        # Also 2130706433 and 0x7f.1 are addresses to those who connect, and the same ones.
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _reach(ip: _IP) -> Reach:
    inner = _inside(ip)
    if inner.is_link_local or inner.is_multicast:
        return Reach.NOBODY
    if inner.is_loopback or inner.is_unspecified:
        return Reach.MACHINE
    return Reach.WORLD if inner.is_global else Reach.NETWORK


def _inside(ip: _IP) -> _IP:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
