"""Container images are pinned to what a registry says, and to nothing else."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from data_contracts.errors import StackError
from infra.lock_images import REFERENCE, Image, lock_images

DIGEST = "sha256:" + "5a" * 32
INFRA = Path(__file__).parents[1] / "infra"


class Registry(BaseHTTPRequestHandler):
    """A registry that asks for an anonymous token, as Docker Hub does."""

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") != "Bearer anonymous":
            self.send_response(401)
            realm = f"http://{self.headers['Host']}/token"
            self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="registry"')
        elif self.path == "/v2/team/postgres/manifests/17.11" and "index" in self.headers["Accept"]:
            self.send_response(200)
            self.send_header("Docker-Content-Digest", DIGEST)
        else:
            self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        content = b'{"token": "anonymous"}' if self.path.startswith("/token?service=") else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("reference", "image"),
    [
        ("postgres:17.11", Image("registry-1.docker.io", "library/postgres", "17.11")),
        ("chrislusf/seaweedfs:4.48", Image("registry-1.docker.io", "chrislusf/seaweedfs", "4.48")),
        ("ghcr.io/team/app", Image("ghcr.io", "team/app", "latest")),
        ("localhost:5000/app:1", Image("localhost:5000", "app", "1")),
        ("localhost:5000/app", Image("localhost:5000", "app", "latest")),
    ],
)
def test_references_are_read_as_docker_reads_them(reference: str, image: Image) -> None:
    assert Image.parse(reference) == image


def test_images_get_their_digests_and_keep_them(registry: str, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    image = f"{registry}/team/postgres:17.11"
    before = f"services:\n  a:\n    image: {image}\n  b:\n    image: evergreen-llm:0.1.0\n"
    file.write_text(before)
    with httpx.Client() as client:
        assert lock_images([file], client) == {image: DIGEST}
        locked = file.read_text()
        assert locked == before.replace(image, f"{image}@{DIGEST}")
        assert lock_images([file], client) == {image: DIGEST}
    assert file.read_text() == locked


@pytest.mark.parametrize("missing", ["127.0.0.1:9/team/postgres:17.11", "{}/team/other:1"])
def test_no_digest_is_invented(registry: str, tmp_path: Path, missing: str) -> None:
    file = tmp_path / "Dockerfile"
    before = f"FROM {missing.format(registry)}\nFROM {registry}/team/postgres:17.11 AS base\n"
    file.write_text(before)
    with httpx.Client() as client, pytest.raises(StackError, match="gives no digest"):
        lock_images([file], client)
    assert file.read_text() == before


def test_our_own_files_name_images_that_can_be_locked() -> None:
    found = {
        match["image"]
        for name in ("Dockerfile", "compose.yaml")
        for match in REFERENCE.finditer((INFRA / name).read_text(encoding="utf-8"))
    }
    assert any(image.startswith("postgres:") for image in found)
    assert any(image.startswith("python:") for image in found)
    assert all(Image.parse(image).tag != "latest" for image in found)
