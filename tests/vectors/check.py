#!/usr/bin/env python3
"""Checks governance.jsonl without a line of the project's code: Python's standard library, and ssh-keygen.

What it works out for itself: ids, what a signature covers (SSHSIG), Ed25519 (RFC 8032), the order of
the signing sets, which commitment of a pool belongs to which set, and FROST's verification of every
share and aggregation (RFC 9591, FROST(Ed25519, SHA-512)).
"""
import base64
import hashlib
import itertools
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent

# Ed25519, RFC 8032 section 5.1 (extended coordinates).
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    """Sum of two points."""
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    x, y, z, w = f - e, h - g, h + g, f + e
    return (x * y % P, z * w % P, y * z % P, x * w % P)


def mul(scalar, point):
    """A multiple of a point."""
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point, scalar = add(point, point), scalar >> 1
    return total


def same(a, b):
    """Whether two points are one."""
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def decode(data):
    """A point from its 32 bytes."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    assert y < P, "not canonical"
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - x2) % P == 0, "no point of the curve"
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


def encode(point):
    """The 32 bytes of a point."""
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = decode(bytes.fromhex("58" + "66" * 31))


def sha512(*parts):
    """SHA-512 of what follows one another."""
    return hashlib.sha512(b"".join(parts)).digest()


def scalar_of(digest):
    """64 bytes as a scalar."""
    return int.from_bytes(digest, "little") % L


def verifies(key, message, signature):
    """Ed25519 without the cofactor, S reduced."""
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    c = scalar_of(sha512(r, key, message))
    return same(mul(s, BASE), add(decode(r), mul(c, decode(key))))


# The objects.
def ssh_string(data):
    """Length and bytes, as SSH writes them."""
    return struct.pack(">I", len(data)) + data


def preimage(kind, payload):
    """What an SSH signature over `payload` covers: OpenSSH's PROTOCOL.sshsig."""
    namespace = f"borgios-{kind}@v1".encode()
    hashed = hashlib.sha512(payload).digest()
    return b"SSHSIG" + ssh_string(namespace) + ssh_string(b"") + ssh_string(b"sha512") + ssh_string(hashed)


def key_bytes(text):
    """The 32 bytes of `ssh-ed25519 AAAA…`."""
    blob = base64.b64decode(text.split()[1])
    assert blob[:19] == ssh_string(b"ssh-ed25519") + struct.pack(">I", 32), text
    return blob[19:]


def armour(kind, by, signature):
    """A signature file for ssh-keygen."""
    blob = b"SSHSIG" + struct.pack(">I", 1) + ssh_string(ssh_string(b"ssh-ed25519") + ssh_string(key_bytes(by)))
    blob += ssh_string(f"borgios-{kind}@v1".encode()) + ssh_string(b"") + ssh_string(b"sha512")
    blob += ssh_string(ssh_string(b"ssh-ed25519") + ssh_string(signature))
    text = base64.b64encode(blob).decode()
    lines = [text[at:at + 70] for at in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def stock(kind, payload, by, signature, folder):
    """What ssh-keygen says of a signature."""
    (folder / "sig").write_text(armour(kind, by, signature))
    (folder / "signers").write_text(f"x {by}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", folder / "signers", "-I", "x",
               "-n", f"borgios-{kind}@v1", "-s", folder / "sig"]
    return subprocess.run(command, input=payload, capture_output=True, check=False).returncode == 0


# FROST, RFC 9591 section 6.1: FROST(Ed25519, SHA-512).
CONTEXT = b"FROST-ED25519-SHA512-v1"


def binding_factors(group, commitments, message):
    """The binding factor of each member of a signing set: RFC 9591 section 4.4."""
    listed = b"".join(i.to_bytes(32, "little") + hiding + binding for i, hiding, binding in commitments)
    prefix = group + sha512(CONTEXT, b"msg", message) + sha512(CONTEXT, b"com", listed)
    return {i: scalar_of(sha512(CONTEXT, b"rho", prefix, i.to_bytes(32, "little"))) for i, _, _ in commitments}


def lagrange(i, members):
    """The coefficient of member `i` at 0."""
    top = bottom = 1
    for j in members:
        if j != i:
            top, bottom = top * j % L, bottom * (j - i) % L
    return top * pow(bottom, L - 2, L) % L


def signature_of(board, message, members, commitments, shares):
    """Checks every share of a signing set and returns the signature they make."""
    group = key_bytes(board["group"])
    factors = binding_factors(group, commitments, message)
    total = (0, 1, 1, 0)
    for i, hiding, binding in commitments:
        total = add(total, add(decode(hiding), mul(factors[i], decode(binding))))
    r = encode(total)
    c = scalar_of(sha512(r, group, message))
    z = 0
    for i, hiding, binding in commitments:
        share = int.from_bytes(shares[i], "little")
        public = decode(base64.b64decode(board["governors"][i - 1]["share"]))
        right = add(add(decode(hiding), mul(factors[i], decode(binding))), mul(c * lagrange(i, members) % L, public))
        assert same(mul(share, BASE), right), f"the share of governor {i} is bad"
        z = (z + share) % L
    return r + z.to_bytes(32, "little")


def check_vote(vectors, payloads):
    """The pools and ballots on release/1 make its signature."""
    board = payloads["policy/1"]["body"]["board"]
    names = [governor["name"] for governor in board["governors"]]
    n, t = len(names), board["threshold"]
    sets = list(itertools.combinations(range(1, n + 1), t))      # lexicographic, as the format has it
    message = preimage("release", vectors["release/1"]["envelope"]["payload"].encode())
    approving = {}
    for i, name in enumerate(names, 1):
        ballot = payloads[f"ballot {name}"]
        assert ballot["statement"] == vectors["release/1"]["id"]
        if ballot["choice"] == "approve":
            assert ballot["pools"] == {other: vectors[f"pool {other}"]["id"] for other in names}
            approving[i] = base64.b64decode(ballot["shares"])
    members = next(s for s in sets if all(i in approving for i in s))
    commitments, shares = [], {}
    for i in members:
        mine = [s for s in sets if i in s]
        at = mine.index(members)
        pool = base64.b64decode(payloads[f"pool {names[i - 1]}"]["commitments"])
        assert len(pool) == 64 * len(mine)
        commitments.append((i, pool[64 * at:64 * at + 32], pool[64 * at + 32:64 * at + 64]))
        shares[i] = approving[i][32 * at:32 * at + 32]
    made = signature_of(board, message, members, commitments, shares)
    signed = base64.b64decode(vectors["release/1"]["envelope"]["sigs"][0]["sig"])
    assert made == signed, "the shares make another signature"
    print(f"shares make the signature of release/1, set {members}")


def check_recovery(vectors, payloads):
    """The recovery board's paper, and the policy that it signed with the board it makes."""
    network = vectors["policy/1"]["id"]
    plan, paper = payloads["founding of a recovery board"], payloads["recovery board"]
    board = paper["body"]["board"]
    assert plan["recovers"] == paper["body"]["recovers"] == network and paper["critical"] == ["recovers"]
    assert (paper["lane"], paper["seq"]) == ("policy", 1) and "network" not in paper
    assert [sig["by"] for sig in vectors["recovery board"]["envelope"]["sigs"]] == [board["group"]]
    assert [card["key"] for card in plan["governors"]] == [governor["key"] for governor in board["governors"]]
    policy = payloads["policy/2 of a recovery key"]
    made = policy["body"]["board"]
    signers = [sig["by"] for sig in vectors["policy/2 of a recovery key"]["envelope"]["sigs"]]
    assert signers == [board["group"], made["group"]] and board["group"] != made["group"]
    assert (policy["network"], policy["prev"], policy["policy"]) == (network, network, 1)
    print("the paper of a recovery board speaks for its own key and one network")


def check_repair(vectors, payloads):
    """The second paper of a helper names the first ones as they were seen."""
    first = hashlib.sha256(vectors["delta"]["envelope"]["payload"].encode()).digest()
    assert payloads["sigma"]["seen"] == "sha256:" + parts(first).hex()
    assert payloads["delta"]["request"] == payloads["sigma"]["request"]
    two = payloads["ballot of two touches"]
    assert len(base64.b64decode(two["nonces"])) == 64 and "shares" not in two and two["choice"] == "approve"
    assert len(base64.b64decode(payloads["part"]["share"])) == 32


def parts(*each):
    """SHA-256 over byte strings, each preceded by its length."""
    return hashlib.sha256(b"".join(struct.pack(">Q", len(part)) + part for part in each)).digest()


def check_founding():
    """The papers of the kept ceremony make its board: key, shares, transcript."""
    lines = map(json.loads, (HERE / "founding.jsonl").read_text().splitlines())
    files = {line["file"]: line["envelope"] for line in lines}
    payload = {name: json.loads(envelope["payload"]) for name, envelope in files.items()}
    ident = {name: hashlib.sha256(envelope["payload"].encode()).digest() for name, envelope in files.items()}
    plan, roster = payload["founding.json"], ident["founding.json"]
    names, t = [card["name"] for card in plan["governors"]], plan["threshold"]
    for card in plan["governors"]:
        for kind in ("card", "dkg1", "dkg2", "done", "ballot", "pool1"):
            envelope = files[f"{card['name']}.{kind}.json"]
            sig = base64.b64decode(envelope["sigs"][0]["sig"])
            assert envelope["sigs"][0]["by"] == card["key"]
            message = preimage(envelope["type"], envelope["payload"].encode())
            assert verifies(key_bytes(card["key"]), message, sig), f"{card['name']}.{kind}"
    header = bytes.fromhex("00b169f0da")
    polynomials = {}
    for i, name in enumerate(names, 1):
        package = base64.b64decode(payload[f"{name}.dkg1.json"]["package"])
        assert package[:5] == header and package[5] == t and package[6 + 32 * t] == 64
        points = [package[6 + 32 * k:38 + 32 * k] for k in range(t)]
        proof = package[7 + 32 * t:]
        assert len(proof) == 64
        c = scalar_of(sha512(CONTEXT, b"dkg", i.to_bytes(32, "little"), points[0], proof[:32]))
        z = int.from_bytes(proof[32:], "little")
        assert same(mul(z, BASE), add(decode(proof[:32]), mul(c, decode(points[0])))), f"{name}: no proof"
        polynomials[i] = [decode(point) for point in points]
    digests = {}
    for kind in ("dkg1", "dkg2"):
        each = [(name.encode(), ident[f"{name}.{kind}.json"]) for name in names]
        digests[kind] = parts(*itertools.chain.from_iterable(each))
    transcript = "sha256:" + parts(roster, digests["dkg1"], digests["dkg2"]).hex()
    board = payload["policy-1.json"]["body"]["board"]
    total = (0, 1, 1, 0)
    for polynomial in polynomials.values():
        total = add(total, polynomial[0])
    assert encode(total) == key_bytes(board["group"]), "the papers make another group key"
    for j, governor in enumerate(board["governors"], 1):
        share = (0, 1, 1, 0)
        for polynomial in polynomials.values():
            for k, point in enumerate(polynomial):
                share = add(share, mul(pow(j, k, L), point))
        assert encode(share) == base64.b64decode(governor["share"]), f"another share of {governor['name']}"
        done = payload[f"{governor['name']}.done.json"]
        assert done["transcript"] == transcript and done["group"] == board["group"]
        assert payload[f"{governor['name']}.dkg2.json"]["round1"] == "sha256:" + digests["dkg1"].hex()
    print(f"the papers of {len(names)} governors make the group key and every share")


def main():
    """Every object, every signature."""
    lines = (HERE / "governance.jsonl").read_text().splitlines()
    vectors = {vector["name"]: vector for vector in map(json.loads, lines)}
    payloads = {name: json.loads(vector["envelope"]["payload"]) for name, vector in vectors.items()}
    keygen, checked, stocked = shutil.which("ssh-keygen"), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, vector in vectors.items():
            envelope = vector["envelope"]
            kind, payload = envelope["type"], envelope["payload"].encode()
            assert vector["id"] == "sha256:" + hashlib.sha256(payload).hexdigest(), name
            if "certificate" in vector:
                if keygen:
                    (folder / "x-cert.pub").write_text(vector["certificate"] + "\n")
                    command = [keygen, "-L", "-f", folder / "x-cert.pub"]
                    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
                    assert hashlib.sha256(payload).hexdigest() in said, said
                continue
            for sig in envelope["sigs"]:
                signature = base64.b64decode(sig["sig"])
                assert verifies(key_bytes(sig["by"]), preimage(kind, payload), signature), name
                checked += 1
                if keygen:
                    assert stock(kind, payload, sig["by"], signature, folder), f"{name}: ssh-keygen refuses it"
                    stocked += 1
    check_vote(vectors, payloads)
    check_founding()
    check_recovery(vectors, payloads)
    check_repair(vectors, payloads)
    print(f"{len(vectors)} objects, {checked} signatures, {stocked} of them by ssh-keygen too")


if __name__ == "__main__":
    main()
