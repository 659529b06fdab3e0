"""`make lock-images`: pin every container image to the digest that its registry gives now.

The compose file and the Dockerfile name images by tag, and a tag can be moved. This asks each
image's registry (OCI Distribution Specification 1.1, "Pulling manifests") for the digest behind
the tag and writes `name:tag@sha256:...` in its place. Without a registry nothing is changed.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx

from data_contracts.errors import EvergreenError, StackError

FILES = ("Dockerfile", "compose.yaml")
# What is built here has no registry.
OWN = "evergreen-llm"
REFERENCE = re.compile(
    r"(?P<before>^\s*image:\s*|^FROM\s+)"
    r"(?P<image>[a-z0-9][\w./:-]*?)(?:@sha256:[0-9a-f]{64})?(?P<after>\s*$|\s+AS\s)",
    re.MULTILINE,
)
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Image:
    """An image by name and tag, as `docker pull` reads it."""

    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, reference: str) -> "Image":
        path, _, tag = reference.rpartition(":")
        if not path or "/" in tag:
            path, tag = reference, "latest"
        first, _, rest = path.partition("/")
        if rest and ("." in first or ":" in first or first == "localhost"):
            return cls(first, rest, tag)
        repository = path if "/" in path else f"library/{path}"
        return cls("registry-1.docker.io", repository, tag)

    @property
    def manifest_url(self) -> str:
        scheme = "http" if re.match(r"(localhost|127\.0\.0\.1)(:|$)", self.registry) else "https"
        return f"{scheme}://{self.registry}/v2/{self.repository}/manifests/{self.tag}"


def lock_images(files: Iterable[Path], client: httpx.Client) -> dict[str, str]:
    """Rewrite the files with digests; all of them, or none.

    Returns:
        {image as it was named: digest}

    Raises:
        StackError: a registry cannot be reached, or does not have an image.
    """
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    named = {match["image"] for text in texts.values() for match in REFERENCE.finditer(text)}
    digests = {
        image: resolve(image, client)
        for image in sorted(named)
        if Image.parse(image).repository.rpartition("/")[2] != OWN
    }

    def pinned(match: re.Match[str]) -> str:
        image = match["image"]
        suffix = f"@{digests[image]}" if image in digests else ""
        return f"{match['before']}{image}{suffix}{match['after']}"

    for file, text in texts.items():
        file.write_text(REFERENCE.sub(pinned, text), encoding="utf-8")
    return digests


def resolve(reference: str, client: httpx.Client) -> str:
    """The digest behind an image's tag.

    Raises:
        StackError: the registry cannot be reached, or does not have the image.
    """
    url = Image.parse(reference).manifest_url
    headers = {"Accept": MANIFESTS}
    try:
        response = client.head(url, headers=headers)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            token = _anonymous_token(response.headers.get("WWW-Authenticate", ""), client)
            response = client.head(url, headers=headers | {"Authorization": f"Bearer {token}"})
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise StackError(
            f"the registry of {reference} gives no digest ({type(error).__name__})",
            "run this where the registry can be reached; no file was changed",
        ) from error
    digest = response.headers.get("Docker-Content-Digest", "")
    if not DIGEST.fullmatch(digest):
        raise StackError(
            f"the registry of {reference} answers without a sha256 digest",
            "check the image's name; no file was changed",
        )
    return str(digest)


def _anonymous_token(challenge: str, client: httpx.Client) -> str:
    """A token to pull with, from where the registry's challenge says."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    if not realm:
        raise httpx.UnsupportedProtocol("the registry asks for a login that is not a token")
    response = client.get(realm, params=fields)
    response.raise_for_status()
    answer = response.json()
    return str(answer.get("token") or answer.get("access_token") or "")


def main() -> int:
    folder = Path(__file__).parent
    try:
        with httpx.Client(timeout=20, follow_redirects=True) as client:
            digests = lock_images([folder / name for name in FILES], client)
    except EvergreenError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command of its own
        return error.exit_code
    for image, digest in digests.items():
        print(f"{image} {digest}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
