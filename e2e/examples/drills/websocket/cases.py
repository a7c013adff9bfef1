"""What a WebSocket peer can say (RFC 6455, RFC 7692), right and wrong, as bytes after the opening handshake.

A case is a name, the pieces that are sent one after another, and whether they are sent at one go, byte by byte, or
end without a closing handshake. The same cases are said by a client (masked) and by a server (not masked)."""

import os
import struct
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x12\x34\x56\x78"


@dataclass
class Case:
    name: str
    pieces: list
    # Permessage-deflate was agreed upon.
    deflate: bool = False
    # How the connection ends after the last piece: wait for the peer, half-close, or reset.
    end: str = "wait"


def masked_bytes(payload, mask=MASK):
    whole = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return whole.to_bytes(len(payload), "big")


class Frames:
    """Writes frames as the side that it stands for must, or must not."""

    def __init__(self, masks):
        self.masks = masks

    def frame(self, opcode, payload=b"", fin=True, rsv=0, masks=None, length_bytes=None, length=None):
        masks = self.masks if masks is None else masks
        length = len(payload) if length is None else length
        if length_bytes is None:
            length_bytes = 0 if length < 126 else 2 if length < 1 << 16 else 8
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        bit = 0x80 if masks else 0
        if length_bytes == 0:
            head += bytes([bit | length])
        elif length_bytes == 2:
            head += bytes([bit | 126]) + struct.pack("!H", length)
        else:
            head += bytes([bit | 127]) + struct.pack("!Q", length)
        return head + (MASK + masked_bytes(payload) if masks else payload)

    def close(self, code=1000, reason=b""):
        return self.frame(CLOSE, struct.pack("!H", code) + reason)


INVALID_UTF8 = [
    b"\x80", b"\xbf", b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
    b"\xf0\x80\x80\xaf", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80",
    b"\xfe", b"\xff", b"abc\xce", b"\xe2\x82", b"\xf0\x9f\x98", b"ok\xffok",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
]
VALID_UTF8 = [
    "κόσμε", "\0", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\uffff", "\U00010000",
    "\U0010ffff", "\ufeff", "Hello-µ@ßöäüàá-UTF-8!!",
]
GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
BAD_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def data(f, add):
    end = f.close()
    for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
        for length in (0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20):
            payload = b"*" * length if opcode == TEXT else os.urandom(length)
            add(f"{name} of {length} bytes", [f.frame(opcode, payload), end])
        whole = f.frame(opcode, b"*" * 65536)
        add(f"{name} of 64 KiB in pieces of 997 bytes", [whole[at : at + 997] for at in range(0, len(whole), 997)] + [end])
        short = f.frame(opcode, b"*" * 200)
        add(f"{name} byte by byte", [short[at : at + 1] for at in range(len(short))] + [end])
        add(f"100 messages of {name} at once", [b"".join(f.frame(opcode, b"%d" % n) for n in range(100)), end])
    for mib in (4, 16):
        for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
            payload = b"x" * (mib << 20)
            add(f"{name} of {mib} MiB", [f.frame(opcode, payload), end])
        piece = b"x" * 65536
        parts = [f.frame(BINARY, piece, fin=False)]
        parts += [f.frame(CONTINUATION, piece, fin=False) for _ in range(mib * 16 - 2)]
        parts.append(f.frame(CONTINUATION, piece))
        add(f"binary of {mib} MiB in fragments of 64 KiB", [b"".join(parts), end])
    add("more than the peer takes", [f.frame(BINARY, b"x" * (18 << 20))])
    add("a length without the bytes", [f.frame(BINARY, b"half", length=1000)], end="finish")
    add("a length above the limit announced only", [f.frame(BINARY, b"", length=1 << 40)])


def control(f, add):
    end = f.close()
    for length in (0, 1, 125):
        add(f"ping of {length} bytes", [f.frame(PING, b"p" * length), end])
    add("ping of binary", [f.frame(PING, bytes(range(125))), end])
    add("ping of 126 bytes", [f.frame(PING, b"p" * 126)])
    add("ping byte by byte", [bytes([byte]) for byte in f.frame(PING, b"slow")] + [end])
    add("ten pings", [b"".join(f.frame(PING, b"%d" % n) for n in range(10)), end])
    add("a pong that nobody asked for", [f.frame(PONG, b"unasked"), f.frame(PING, b"asked"), end])
    add("a pong of 126 bytes", [f.frame(PONG, b"p" * 126)])
    add("a ping in fragments", [f.frame(PING, b"a", fin=False), f.frame(CONTINUATION, b"b")])
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        add(f"reserved opcode {opcode}", [f.frame(opcode, b"?")])
        add(f"reserved opcode {opcode} after a text", [f.frame(TEXT, b"before"), "settle", f.frame(opcode)])
    for bits in range(1, 8):
        add(f"reserved bits {bits} on text", [f.frame(TEXT, b"?", rsv=bits)])
        add(f"reserved bits {bits} on ping", [f.frame(PING, b"?", rsv=bits)])
        add(f"reserved bits {bits} on close", [f.frame(CLOSE, b"\x03\xe8", rsv=bits)])
    add("the wrong side of masking", [f.frame(TEXT, b"?", masks=not f.masks)])
    add("a length in more bytes than it needs (16 bits)", [f.frame(TEXT, b"ab", length_bytes=2), end])
    add("a length in more bytes than it needs (64 bits)", [f.frame(TEXT, b"ab", length_bytes=8), end])
    add("a length with its highest bit set", [f.frame(BINARY, b"", length=1 << 63)])


def fragments(f, add):
    end, more = f.close(), lambda payload, last=False: f.frame(CONTINUATION, payload, fin=last)
    add("two fragments", [f.frame(TEXT, b"one", fin=False), more(b"two", True), end])
    add("empty fragments", [f.frame(TEXT, b"", fin=False), more(b""), more(b"", True), end])
    add("an empty fragment in the middle", [f.frame(TEXT, b"a", fin=False), more(b""), more(b"b", True), end])
    for opcode, name in ((PING, "ping"), (PONG, "pong")):
        add(f"a {name} between fragments", [f.frame(TEXT, b"a", fin=False), f.frame(opcode, b"!"), more(b"b", True), end])
    add("a close between fragments", [f.frame(TEXT, b"a", fin=False), end])
    add("a continuation of nothing", [more(b"?", True)])
    add("an unfinished continuation of nothing", [more(b"?")])
    add("a text in the middle of a message", [f.frame(TEXT, b"a", fin=False), f.frame(TEXT, b"b")])
    add("a binary in the middle of a text", [f.frame(TEXT, b"a", fin=False), f.frame(BINARY, b"b")])
    add("a continuation after the last", [f.frame(TEXT, b"a", fin=False), more(b"b", True), "settle", more(b"c", True)])
    many = [f.frame(TEXT, b"0", fin=False)] + [more(b"%d" % (n % 10)) for n in range(500)] + [more(b"!", True)]
    add("502 fragments", [b"".join(many), end])
    add("502 fragments, each a segment", many + [end])


def text(f, add):
    end = f.close()
    for number, valid in enumerate(VALID_UTF8):
        payload = valid.encode()
        add(f"valid UTF-8 {number}", [f.frame(TEXT, payload), end])
        parts = [f.frame(TEXT if at == 0 else CONTINUATION, payload[at : at + 1], fin=at == len(payload) - 1) for at in range(len(payload))]
        add(f"valid UTF-8 {number}, a fragment for every byte", parts + [end])
    for number, invalid in enumerate(INVALID_UTF8):
        add(f"invalid UTF-8 {number}", [f.frame(TEXT, invalid)])
        add(f"invalid UTF-8 {number} in binary", [f.frame(BINARY, invalid), end])
        parts = [f.frame(TEXT, b"", fin=False)]
        parts += [f.frame(CONTINUATION, invalid[at : at + 1], fin=at == len(invalid) - 1) for at in range(len(invalid))]
        add(f"invalid UTF-8 {number}, a fragment for every byte", parts)
        add(f"invalid UTF-8 {number} as a reason", [f.close(1000, invalid)])


def closing(f, add):
    add("close without a code", [f.frame(CLOSE)])
    add("close with half a code", [f.frame(CLOSE, b"\x03")])
    for code in GOOD_CODES:
        add(f"close {code}", [f.close(code)])
        add(f"close {code} with a reason", [f.close(code, "warum nicht: µ".encode())])
    for code in BAD_CODES:
        add(f"close {code}, which is none", [f.close(code, b"why")])
    add("close with the longest reason", [f.close(1000, b"r" * 123)])
    add("close with too long a reason", [f.close(1000, b"r" * 124)])
    add("close in fragments", [f.frame(CLOSE, b"\x03\xe8", fin=False)])
    add("a message, then close", [f.frame(TEXT, b"last"), f.close(4321, b"done")])
    add("close byte by byte", [bytes([byte]) for byte in f.close(1000, b"slowly")])
    add("an end without close", [f.frame(TEXT, b"hello"), "settle"], end="finish")
    add("an end at once", [], end="finish")
    add("an end in the middle of a frame", [f.frame(TEXT, b"hello")[:-2]], end="finish")
    add("an end in the middle of a head", [b"\x81"], end="finish")
    add("an end in the middle of a message", [f.frame(TEXT, b"hello", fin=False)], end="finish")
    add("a reset", [f.frame(TEXT, b"hello"), "settle"], end="reset")


def compressed(f, add):
    """The examples of RFC 7692, section 7.2.3, and what must not be."""

    end = f.close()
    hello = bytes.fromhex("f248cdc9c90700")
    def add_deflated(name, pieces, **more):
        add(f"deflate: {name}", pieces, deflate=True, **more)

    add_deflated("one block", [f.frame(TEXT, hello, rsv=4), end])
    add_deflated("in two fragments", [f.frame(TEXT, hello[:3], fin=False, rsv=4), f.frame(CONTINUATION, hello[3:]), end])
    add_deflated("the window is kept", [f.frame(TEXT, hello, rsv=4), f.frame(TEXT, bytes.fromhex("f200110000"), rsv=4), end])
    add_deflated("a block without compression", [f.frame(TEXT, bytes.fromhex("000500faff48656c6c6f00"), rsv=4), end])
    add_deflated("a final block", [f.frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv=4), end])
    add_deflated("two blocks", [f.frame(TEXT, bytes.fromhex("f24805000000ffffcac9c90700"), rsv=4), end])
    add_deflated("an empty message", [f.frame(TEXT, b"\x00", rsv=4), end])
    add_deflated("a message left as it is", [f.frame(TEXT, b"plain"), end])
    add_deflated("a ping between fragments", [f.frame(TEXT, hello[:3], fin=False, rsv=4), f.frame(PING, b"!"), f.frame(CONTINUATION, hello[3:]), end])
    add_deflated("no deflate data", [f.frame(TEXT, b"\xff\xff\xff\xff", rsv=4)])
    add_deflated("the bit on a continuation", [f.frame(TEXT, hello[:3], fin=False, rsv=4), f.frame(CONTINUATION, hello[3:], rsv=4)])
    add_deflated("the bit on a ping", [f.frame(PING, b"!", rsv=4)])
    add_deflated("invalid UTF-8 inside", [f.frame(TEXT, bytes.fromhex("000200fdffff00") + b"\x00", rsv=4)])
    import zlib

    for length in (1000, 100_000, 8 << 20):
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(b"Hello, compression. " * (length // 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
        add_deflated(f"{length} bytes", [f.frame(TEXT, packed[:-4], rsv=4), end])


def all_cases(masks):
    """Said by a client (it masks) or by a server (it does not)."""

    found = []

    def add(name, pieces, **more):
        # What is echoed is heard before the close, or a server may drop it.
        if len(pieces) > 1 and pieces[-1] == Frames(masks).close():
            pieces = [*pieces[:-1], "settle", pieces[-1]]
        found.append(Case(name, pieces, **more))

    for part in (data, control, fragments, text, closing, compressed):
        part(Frames(masks), add)
    return found
