"""A release signed by whoever answers for it: Ed25519 over SHA256SUMS, detached, checked without a network.

The key is the site's own, in PEM as openssl writes it. cryptography is loaded only where a key is given.
"""

from pathlib import Path
from typing import Any

from pipelines import artefacts

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
BYTES = 64
"""Of an Ed25519 signature (RFC 8032, section 5.1.6)."""


def sign(release: Path, key: Path) -> Path:
    """Write the signature of a release's list of checksums, which covers its manifest and so every file.

    Args:
        release: a folder with SHA256SUMS.
        key: an Ed25519 private key, PEM (PKCS 8), without a passphrase.

    Returns:
        The file of 64 bytes. Ed25519 draws nothing: equal lists and keys give equal bytes.

    Raises:
        ValueError: the key cannot be used, or there is no list of checksums.
    """
    private = private_key(key)
    artefacts.write_bytes(release / SIGNATURE, private.sign(content(release / SUMS)))
    return release / SIGNATURE


def verify(release: Path, key: Path) -> None:
    """Check that a release's list of checksums is what the holder of the private key signed.

    Args:
        release: a folder with SHA256SUMS and SHA256SUMS.sig.
        key: the Ed25519 public key, PEM.

    Raises:
        ValueError: the key cannot be used, the signature is missing, or it is of another key or another list.
    """
    from cryptography.exceptions import InvalidSignature

    public = public_key(key)
    path = release / SIGNATURE
    if not path.is_file():
        raise ValueError(f"{path}: missing, and {key.name} asks for a signed release; sign it: anamnesis export --sign")
    found = path.read_bytes()
    if len(found) != BYTES:
        raise ValueError(f"{path}: {len(found)} bytes; an Ed25519 signature has {BYTES}: copy the whole folder again")
    try:
        public.verify(found, content(release / SUMS))
    except InvalidSignature:
        raise ValueError(
            f"{path}: does not match {SUMS} and {key.name}; the release was changed or signed with another key: "
            "do not use it"
        ) from None


def content(path: Path) -> bytes:
    """Return the list of checksums."""
    if not path.is_file():
        raise ValueError(f"{path}: missing; a release has one: copy the whole folder again")
    return path.read_bytes()


def private_key(path: Path) -> Any:  # noqa: ANN401  a key of cryptography, which is loaded only here
    """Read an Ed25519 private key.

    Raises:
        ValueError: it is none, or has a passphrase, or cryptography is not installed.
    """
    ed25519, serialization = loaded()
    given = pem(path)
    try:
        key = serialization.load_pem_private_key(given, password=None)
    except TypeError:
        raise ValueError(f"{path}: has a passphrase; expected a key without one, kept where only you read it") from None
    except Exception:  # cryptography's errors share no public base
        raise ValueError(f"{path}: not a private key in PEM; make one: openssl genpkey -algorithm ed25519") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError(f"{path}: a key of another kind; expected Ed25519: openssl genpkey -algorithm ed25519")
    return key


def public_key(path: Path) -> Any:  # noqa: ANN401  a key of cryptography, which is loaded only here
    """Read an Ed25519 public key.

    Raises:
        ValueError: it is none, or cryptography is not installed.
    """
    ed25519, serialization = loaded()
    given = pem(path)
    if b"PRIVATE KEY" in given:
        raise ValueError(f"{path}: a private key; expected the public one: openssl pkey -in KEY -pubout")
    try:
        key = serialization.load_pem_public_key(given)
    except Exception:  # cryptography's errors share no public base
        raise ValueError(f"{path}: not a public key in PEM; take it from yours: openssl pkey -in KEY -pubout") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ValueError(f"{path}: a key of another kind; expected Ed25519: openssl genpkey -algorithm ed25519")
    return key


def pem(path: Path) -> bytes:
    """Return the bytes of a key's file."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected an Ed25519 key in PEM")
    return path.read_bytes()


def loaded() -> tuple[Any, Any]:
    """Return the two modules of cryptography that are used."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ValueError("signatures need the package cryptography; install anamnesis[serve]") from None
    return ed25519, serialization
