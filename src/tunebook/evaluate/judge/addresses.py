"""Where clouds keep the credentials of a machine: no judge is there, and nothing is sent there."""

from __future__ import annotations

import ipaddress
import socket

from tunebook.errors import UsageError

# The last four bytes are an address of IPv4: mapped, compatible, translated (RFC 2765, 6052).
_IPV4_INSIDE = tuple(
    map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
)
# Not link-local, and just as open to whoever asks: Alibaba, Azure and Oracle, then AWS, Google and
# Oracle over IPv6. A network's own translation (RFC 8215) holds IPv4 where only it knows.
_METADATA = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::/64",
            "fd20:ce::/64",
            "fd00:c1::/64",
            "64:ff9b:1::/48",
        ),
    )
)
# They resolve inside a cloud, which may not be where they are looked up first.
_NAMES = (
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.azure.internal",
    "instance-data",
    "instance-data.ec2.internal",
)


def refuse_link_local(host: str, shown: str) -> None:
    """Raise UsageError where a host is, or a name leads to, where clouds keep credentials.

    Numbers of any base and addresses of IPv4 inside IPv6 are what they lead to.
    """
    name = host.partition("%")[0].rstrip(".").lower()
    if name in _NAMES or any(_keeps_credentials(one) for one in _addresses(name)):
        raise UsageError(
            f"{shown} is a link-local address or one like it, where clouds keep credentials; "
            "name the judge by its own address"
        )


def _addresses(name: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
    except (OSError, UnicodeError):  # the client will say that there is no such host
        return set()


def _keeps_credentials(text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        inside = [low] if any(address in net for net in _IPV4_INSIDE) else []
        inside += [address.sixtofour] if address.sixtofour is not None else []
        inside += address.teredo or ()
        if any(_keeps_credentials(str(one)) for one in inside):
            return True
        address = ipaddress.IPv6Address(int(address))  # without the zone, which is in no network
    return address.is_link_local or any(address in net for net in _METADATA)
