"""Asking the hub without waiting for a network that is not there."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Iterator
from urllib.parse import urlparse


@contextlib.contextmanager
def asked() -> Iterator[None]:
    """Within the block what was downloaded before is found, and the hub is asked only where its address is known.

    The libraries themselves would try six times, for half a minute and in as many lines.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def reachable(address: str) -> bool:
    """Whether the host of an address has a name here; true behind a proxy, which looks names up itself."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.getaddrinfo(urlparse(address).hostname, 443)
    except OSError:
        return False
    return True
