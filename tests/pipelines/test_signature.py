"""Signatures: what openssl signs we take, what we sign openssl takes, and one changed bit is refused."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import score, signature
from pipelines.export import export
from pipelines.release import open_release, write_sums
from pipelines.serve import cli as serve


def openssl(*words):
    found = subprocess.run(["openssl", *map(str, words)], capture_output=True, check=False)
    assert found.returncode == 0, found.stderr.decode()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Return a private and a public key that openssl made, and another public one."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make keys")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / f"{name}.pem")
        openssl("pkey", "-in", folder / f"{name}.pem", "-pubout", "-out", folder / f"{name}.pub")
    return folder / "ours.pem", folder / "ours.pub", folder / "theirs.pub"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / signature.SUMS).write_text(f"{'0' * 64}  model.onnx\n")
    return tmp_path


@pytest.fixture
def signed(chain, keys, tmp_path):
    """Return a signed copy of the chain's release."""
    release = tmp_path / "release"
    shutil.copytree(chain.release, release)
    signature.sign(release, keys[0])
    return release


def test_openssl_takes_ours_and_we_take_openssls(folder, keys):
    private, public, _ = keys
    signature.sign(folder, private)
    sums, made = folder / signature.SUMS, folder / signature.SIGNATURE
    openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", sums, "-sigfile", made)
    ours = made.read_bytes()
    made.unlink()
    openssl("pkeyutl", "-sign", "-inkey", private, "-rawin", "-in", sums, "-out", made)
    assert made.read_bytes() == ours
    signature.verify(folder, public)


@settings(max_examples=30)
@given(at=st.integers(0, 8 * signature.BYTES - 1), in_list=st.booleans())
def test_one_bit_is_enough(tmp_path_factory, keys, at, in_list):
    folder = tmp_path_factory.mktemp("bit")
    (folder / signature.SUMS).write_text(f"{'0' * 64}  model.onnx\n")
    signature.sign(folder, keys[0])
    path = folder / (signature.SUMS if in_list else signature.SIGNATURE)
    content = bytearray(path.read_bytes())
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match="do not use it"):
        signature.verify(folder, keys[1])


def test_another_key_no_signature_and_half_a_one_are_refused(signed, keys):
    open_release(signed, key=keys[1])
    with pytest.raises(ValueError, match="signed with another key"):
        open_release(signed, key=keys[2])
    path = signed / signature.SIGNATURE
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ValueError, match="30 bytes; an Ed25519 signature has 64"):
        open_release(signed, key=keys[1])
    path.unlink()
    with pytest.raises(ValueError, match=r"missing, and ours\.pub asks for a signed release"):
        open_release(signed, key=keys[1])
    open_release(signed)


def test_a_changed_file_with_new_checksums_is_refused(signed, keys):
    """Whoever changes a file can write its checksums anew, but not sign them."""
    (signed / "card.md").write_text("another card\n")
    write_sums(signed)
    with pytest.raises(ValueError, match="the release was changed"):
        open_release(signed, key=keys[1])


def test_a_file_that_the_signed_list_does_not_hold_is_not_read(signed, keys):
    """The list stays as signed; the manifest, which it covers, tells of the changed file."""
    (signed / "vocabulary.json").write_text("{}")
    with pytest.raises(ValueError, match=r"vocabulary\.json: does not match its checksum"):
        open_release(signed, key=keys[1])


def test_what_is_no_key(folder, keys, tmp_path):
    private, public, _ = keys
    with pytest.raises(ValueError, match="a private key; expected the public one"):
        signature.verify(folder, private)
    with pytest.raises(ValueError, match="not a private key in PEM"):
        signature.sign(folder, public)
    with pytest.raises(ValueError, match="no such file"):
        signature.sign(folder, tmp_path / "absent.pem")
    openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", tmp_path / "rsa.pem")
    with pytest.raises(ValueError, match="of another kind; expected Ed25519"):
        signature.sign(folder, tmp_path / "rsa.pem")
    openssl("pkey", "-in", private, "-aes256", "-passout", "pass:word", "-out", tmp_path / "locked.pem")
    with pytest.raises(ValueError, match="has a passphrase"):
        signature.sign(folder, tmp_path / "locked.pem")
    (tmp_path / "no.pem").write_text("none")
    with pytest.raises(ValueError, match="not a public key in PEM"):
        signature.verify(folder, tmp_path / "no.pem")


def test_serve_refuses_what_is_not_signed_with_the_key(chain, keys):
    with pytest.raises(ValueError, match="asks for a signed release"):
        serve.main([str(chain.release), "--port", "0", "--key", str(keys[1])])


def test_score_refuses_what_is_not_signed_with_the_key(chain, keys, tmp_path):
    words = [str(chain.release), str(chain.records), str(tmp_path / "out"), "--key", str(keys[1])]
    with pytest.raises(ValueError, match="asks for a signed release"):
        score.main(words)
    assert not (tmp_path / "out").exists()


def test_export_signs(chain, keys, tmp_path):
    release = tmp_path / "release"
    export(chain.tuned, release, sign=keys[0])
    assert open_release(release, key=keys[1]).model == open_release(chain.release, trusted=True).model
    with pytest.raises(ValueError, match="not a private key in PEM"):
        export(chain.tuned, tmp_path / "other", sign=keys[1])
