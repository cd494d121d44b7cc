"""A proxy before an object store: it counts requests, and some it spoils; which ones follows from a seed.

    client ──▶ proxy ──▶ store          GET /bucket/a, bytes 0-99 (first try)   ─ seed 7 ─▶  500
                                        GET /bucket/a, bytes 0-99 (second try)  ─ seed 7 ─▶  passed on

Whether a request is spoilt hangs on (seed, method, path, range, how often it was made before), not on when it comes.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import xxhash

#: What can go wrong with a request. `lost`: it is done, and the answer never comes; `short`: fewer bytes than the
#: header says; `less`: fewer bytes of the range than were asked for, in a well-formed answer.
FAULTS = ("500", "503", "reset", "hang", "short", "less", "lost")

_CODES = {"500": (500, "InternalError"), "503": (503, "SlowDown")}


@dataclass(frozen=True)
class Request:
    """A request as the proxy saw it.

    Attributes:
        kind: HEAD, GET, LIST, PUT, DELETE, or, of an upload in parts, BEGIN, PART, COMPLETE, ABORT.
        path: bucket and key.
        range: the header, or nothing.
        turn: how often the same was asked before.
        query: what stands behind the question mark.
    """

    kind: str
    path: str
    range: str
    turn: int
    query: str = ""


@dataclass
class Traffic:
    """What went through.

    Attributes:
        requests: all of them, in the order in which they came.
        spoilt: kinds of requests and faults.
        down: bytes of objects that were sent to the client.
        up: bytes that the client sent.
    """

    requests: list[Request] = field(default_factory=list)
    spoilt: Counter[tuple[str, str]] = field(default_factory=Counter)
    down: int = 0
    up: int = 0

    @property
    def kinds(self) -> Counter[str]:
        return Counter(request.kind for request in self.requests)

    def of(self, kind: str, part: str = "") -> list[Request]:
        return [request for request in self.requests if request.kind == kind and part in request.path]


#: Names the fault of a request: one of `FAULTS`, or an error of the store as (HTTP status, code), or None.
Spoil = Callable[[Request], "str | tuple[int, str] | None"]


def sometimes(rate: float, seed: int, faults: Sequence[str], kinds: Sequence[str] = (), *, most: int = 4) -> Spoil:
    """Spoil a share of the requests, each at most so many times in a row."""

    def spoil(request: Request) -> str | None:
        if (kinds and request.kind not in kinds) or request.turn >= most:
            return None
        told = f"{seed} {request.kind} {request.path} {request.range} {request.turn} {request.query.partition('=')[0]}"
        number = xxhash.xxh3_64_intdigest(told.encode())
        return faults[number % len(faults)] if (number >> 16) % 10_000 < rate * 10_000 else None

    return spoil


def always(fault: str | tuple[int, str], kinds: Sequence[str] = (), part: str = "") -> Spoil:
    """Spoil all requests of some kinds, or of objects with some letters in their names."""
    return lambda request: fault if (not kinds or request.kind in kinds) and part in request.path else None


class Proxy:
    """The proxy; `spoil` may be changed while it works.

    Args:
        upstream: host and port of the store.
        hang: for how many seconds a request hangs.
    """

    def __init__(self, upstream: tuple[str, int], hang: float = 30) -> None:
        self.traffic = Traffic()
        self.spoil: Spoil = lambda _: None
        self.upstream = upstream
        self.hang = hang
        self.ended = threading.Event()
        self._turns: Counter[tuple[str, ...]] = Counter()
        self._order = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def reset(self) -> None:
        """Spoil nothing, and count from nothing."""
        self.spoil = lambda _: None
        self.traffic = Traffic()
        self._turns.clear()

    @contextlib.contextmanager
    def up(self) -> Iterator[Proxy]:
        self._thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def note(self, kind: str, path: str, ranged: str, query: str) -> Request:
        with self._order:
            self._turns[kind, path, ranged, query] += 1
            request = Request(kind, path, ranged, self._turns[kind, path, ranged, query] - 1, query)
            self.traffic.requests.append(request)
            return request

    def count(self, *, up: int = 0, down: int = 0) -> None:
        with self._order:
            self.traffic.up += up
            self.traffic.down += down


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: Proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that left are no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._store: http.client.HTTPConnection | None = None

    def finish(self) -> None:
        if self._store is not None:
            self._store.close()
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        pass

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self._body()
        target = urlsplit(self.path)
        request = proxy.note(_kind(self.command, target.query), target.path, self.headers["Range"] or "", target.query)
        proxy.count(up=len(body))
        fault = proxy.spoil(request)
        if fault is not None:
            proxy.traffic.spoilt[request.kind, str(fault)] += 1
        if isinstance(fault, tuple) or fault in _CODES:
            self._refuse(*(fault if isinstance(fault, tuple) else _CODES[fault]))
        elif fault == "reset":
            self._break()
        elif fault == "hang":
            proxy.ended.wait(proxy.hang)
            self._break()
        else:
            self._pass_on(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the base class calls them so

    def _body(self) -> bytes:
        if "chunked" in (self.headers["Transfer-Encoding"] or ""):
            whole = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _pass_on(self, body: bytes, fault: str | None) -> None:
        if self._store is None:
            self._store = http.client.HTTPConnection(*self.server.proxy.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k not in ("Transfer-Encoding", "Expect", "Content-Length")}
        self._store.request(self.command, self.path, body or None, headers | {"Content-Length": str(len(body))})
        answer = self._store.getresponse()
        data = answer.read()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")]
        if fault == "lost":
            self._break()
            return
        # Without a range a store that answers less would lie.
        if (fault == "short" or (fault == "less" and answer.status == 206)) and self.command == "GET" and data:
            self._send(answer.status, kept, data[: len(data) // 2], len(data) // (2 if fault == "less" else 1))
            if fault == "short":
                self._break()
            return
        self._send(answer.status, kept, data, None)

    def _send(self, status: int, headers: Sequence[tuple[str, str]], data: bytes, length: int | None) -> None:
        self.send_response_only(status)
        has_length = False
        for name, value in headers:
            if name.lower() == "content-length":
                has_length = True
                self.send_header(name, value if length is None else str(length))
            elif length is None or not name.lower().startswith("x-amz-checksum"):
                self.send_header(name, value)
        if not has_length and status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
            self.server.proxy.count(down=len(data))

    def _refuse(self, status: int, code: str) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told to the test</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _break(self) -> None:
        """End the connection as a machine that dies does."""
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


def _kind(method: str, query: str) -> str:
    asked = parse_qs(query, keep_blank_values=True)
    if method == "GET" and ("list-type" in asked or "prefix" in asked):
        return "LIST"
    if "uploads" in asked:
        return "BEGIN"
    if "uploadId" in asked:
        return {"PUT": "PART", "POST": "COMPLETE", "DELETE": "ABORT"}.get(method, method)
    return "DELETE" if method == "POST" and "delete" in asked else method
