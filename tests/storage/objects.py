"""An object store on loopback: moto's S3 in a process of its own, and a proxy before it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs
from botocore.config import Config
from botocore.retries.standard import ExponentialBackoff

from mixture.storage import as_place, places, tries
from tests.storage.proxy import Proxy

BUCKET = "bucket"
#: Two clients may find the same region; a test has no account.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
#: What a developer's own environment could say of a store.
OTHER = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ENDPOINT_URL_S3")
_numbers = itertools.count()


@functools.cache
def server() -> tuple[str, int]:
    """Start moto's S3, once for all tests of a process; it ends with the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end() -> None:
        process.kill()
        process.wait()

    atexit.register(end)
    until = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return "127.0.0.1", port
        except OSError:
            if time.monotonic() > until or process.poll() is not None:
                raise
            time.sleep(0.1)


@dataclass
class Store:
    """A bucket, seen from behind the proxy.

    Attributes:
        proxy: before it.
        root: what the tests' places begin with; each test has its own.
    """

    proxy: Proxy
    root: str

    def place(self, name: str = "") -> Any:
        return as_place(f"{self.root}/{name}" if name else self.root)

    @functools.cached_property
    def client(self) -> Any:
        """A client that does not go through the proxy."""
        host, port = server()
        return boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def _key(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/").removeprefix(f"s3://{BUCKET}/")

    def put(self, name: str, data: bytes) -> Any:
        self.client.put_object(Bucket=BUCKET, Key=self._key(name), Body=data)
        return self.place(name)

    def get(self, name: str) -> bytes:
        whole: bytes = self.client.get_object(Bucket=BUCKET, Key=self._key(name))["Body"].read()
        return whole

    def names(self, under: str = "") -> list[str]:
        base = self._key(under) + "/"
        found: list[str] = []
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=base):
            found += [one["Key"].removeprefix(self._key("") + "/") for one in page.get("Contents", ())]
        return sorted(found)

    def uploads(self) -> int:
        """Return how many uploads in parts were begun and neither completed nor given up."""
        found = self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        return sum(one["Key"].startswith(self._key("")) for one in found)

    def environment(self, scratch: str) -> Mapping[str, str]:
        """Return what tells a process of this store."""
        mine = CREDENTIALS | {"AWS_ENDPOINT_URL": self.proxy.url, "MIXTURE_SCRATCH": scratch}
        mine |= {"AWS_EC2_METADATA_DISABLED": "true"}
        return {k: v for k, v in os.environ.items() if k not in OTHER} | mine


@contextlib.contextmanager
def environment(scratch: Path) -> Iterator[Store]:
    """Lend a store with a prefix of its own, and tell this process of it by the environment."""
    with Proxy(server()).up() as proxy, pytest.MonkeyPatch.context() as patch:
        store = Store(proxy, f"s3://{BUCKET}/test-{next(_numbers)}")
        for name in OTHER:
            patch.delenv(name, raising=False)
        for name, value in store.environment(str(scratch)).items():
            if os.environ.get(name) != value:
                patch.setenv(name, value)
        # Clients are kept by what they are told; of the environment they know only what it was when they were made.
        s3fs.S3FileSystem.clear_instance_cache()
        with contextlib.suppress(store.client.exceptions.BucketAlreadyOwnedByYou):
            store.client.create_bucket(Bucket=BUCKET)
        yield store


@contextlib.contextmanager
def hurried(read_seconds: float = 1.0) -> Iterator[None]:
    """Make pauses between tries nothing, and time-outs short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tries, "PAUSE", 0.001)
        patch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.0)
        patch.setitem(places._S3["config_kwargs"], "read_timeout", read_seconds)
        s3fs.S3FileSystem.clear_instance_cache()
        yield
    s3fs.S3FileSystem.clear_instance_cache()


def moto(path: str, body: Any = None) -> Any:
    """Ask moto itself something, as `reset-auth`."""
    host, port = server()
    data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
    with urllib.request.urlopen(f"http://{host}:{port}/moto-api/{path}", data, timeout=30) as answer:
        return answer.read()
