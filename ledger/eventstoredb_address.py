"""Where an EventStoreDB is: `esdb://user:password@host:port,host:port/namespace?tls=true&tlsCaFile=...`."""

from base64 import b64encode
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

SCHEMES = ("esdb", "esdb+discover")
DEFAULT_NAMESPACE = "ledger"
_PORT = 2113
_OPTIONS = ("tls", "tlscafile", "usercertfile", "userkeyfile", "connectionname", "layout")
STREAMS, SEGMENTS = "streams", "segments"


class Address(Struct, frozen=True):
    """
    `targets` are `host:port`; with several, or where one name stands for many, the one that leads is to be found.

    `layout` is how commits stand there: a stream per impression, or segments of many (`ledger/segments.py`).
    `authorization` is what calls say of who asks, empty without TLS: a password never goes in clear.
    """

    targets: tuple[str, ...]
    discovers: bool
    namespace: str
    tls: bool
    authorization: str
    ca_file: Path | None = None
    key_file: Path | None = None
    certificate_file: Path | None = None
    connection_name: str = "impression-ledger"
    layout: str = STREAMS


def read_address(url: str) -> Address:
    """
    Return the address in *url*.

    Raises:
        ValueError: it cannot be read; the message repeats nothing of it but names of options.
    """
    try:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        given = parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(_said("it is no URL")) from None
    options = {name.lower(): value for name, value in given}
    hosts = [host.strip() for host in parts.netloc.rpartition("@")[2].split(",") if host.strip()]
    tls = options.get("tls", "true").lower()
    layout = options.get("layout", STREAMS).lower()
    unknown = sorted(options.keys() - set(_OPTIONS))
    for wrong, why in (
        (parts.scheme not in SCHEMES, f"its scheme is none of {', '.join(SCHEMES)}"),
        (not hosts, "it names no host"),
        (bool(unknown), f"no option is called {', '.join(unknown)}"),
        (tls not in {"true", "false"}, "tls is true or false"),
        (layout not in {STREAMS, SEGMENTS}, f"layout is {STREAMS} or {SEGMENTS}"),
        (tls == "true" and not (user and password), "with TLS it needs a user and a password"),
    ):
        if wrong:
            raise ValueError(_said(why))
    secret = b64encode(f"{user}:{password}".encode()).decode()
    return Address(
        targets=tuple(host if ":" in host else f"{host}:{_PORT}" for host in hosts),
        discovers=len(hosts) > 1 or parts.scheme != SCHEMES[0],
        namespace=parts.path.strip("/") or DEFAULT_NAMESPACE,
        tls=tls == "true",
        authorization=f"Basic {secret}" if tls == "true" else "",
        ca_file=_path(options.get("tlscafile")),
        key_file=_path(options.get("userkeyfile")),
        certificate_file=_path(options.get("usercertfile")),
        connection_name=options.get("connectionname", "impression-ledger"),
        layout=layout,
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _said(why: str) -> str:
    return f"the event store's address is not esdb://user:password@host:port/namespace?tls=true&tlsCaFile=...: {why}"
