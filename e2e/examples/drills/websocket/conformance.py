"""Does a WebSocket through everup behave as a direct one does? Every case is said to a real peer (the `websockets`
library) directly and through everup, and what came back is compared: messages, control frames, close code and reason,
and how the connection ended. Not compared is in which segments bytes came, and which of a pong and an echo came first.

conformance.py peers        an echoing server, and one that says the cases; prints their ports
conformance.py compare N DIRECT-ECHO EVERUP-ECHO DIRECT-CASES EVERUP-CASES     (each HOST:PORT; one case of N); 1 if
                                                                              anything differs
"""

import asyncio
import base64
import hashlib
import json
import logging
import socket
import struct
import sys

import websockets

from cases import CLOSE, MASK, all_cases, masked_bytes

# As the peer's limit. Larger messages are refused with 1009.
LARGEST = 17 << 20
# Nobody needs so long on one machine.
PATIENCE = 20
# A peer that keeps quiet for so long waits for us.
QUIET = 4
# Nothing new for so long, in seconds: the answer is whole.
SETTLED = 0.03
# What depends on who is faster differs from run to run also on a direct connection: so many runs see it all.
RUNS = 6
# The later direct runs leave so long between pieces, in seconds: a proxy in between does that as well.
BREATH = 0.002
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
DEFLATE = "permessage-deflate; client_max_window_bits"


# --- bytes -----------------------------------------------------------------------------------------------------


def shorten(payload):
    return payload.hex() if len(payload) <= 64 else f"{len(payload)} bytes {hashlib.sha1(payload).hexdigest()}"


def frames(received):
    """What was received, as data frames, control frames and what is no whole frame."""
    data, control, at = [], [], 0
    while at + 2 <= len(received):
        first, second = received[at], received[at + 1]
        length, start = second & 0x7F, at + 2
        if length == 126:
            length, start = int.from_bytes(received[start : start + 2], "big"), start + 2
        elif length == 127:
            length, start = int.from_bytes(received[start : start + 8], "big"), start + 8
        mask = received[start : start + 4] if second & 0x80 else None
        start += 4 if mask else 0
        if start + length > len(received):
            break
        payload = received[start : start + length]
        payload = masked_bytes(payload, mask) if mask else payload
        kept = control if first & 0x08 else data
        kept.append(f"{first:02x} {shorten(payload)}")
        at = start + length
    return {"data": data, "control": control, "rest": shorten(received[at:])}


class Ear:
    """Hears everything up to the end, and which end it was."""

    def __init__(self, reader, until_close):
        self.reader, self.until_close = reader, until_close
        self.received, self.last = bytearray(), None

    async def settled(self):
        """Something came, and then nothing for a moment."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        while clock() - (self.last or begun + SETTLED * 20) < SETTLED:
            await asyncio.sleep(SETTLED / 4)

    async def hear(self):
        while True:
            try:
                piece = await asyncio.wait_for(self.reader.read(1 << 20), PATIENCE if not self.received else QUIET)
            except asyncio.TimeoutError:
                return "open"
            except ConnectionError:
                return "reset"
            if not piece:
                return "closed"
            self.last = asyncio.get_running_loop().time()
            self.received += piece
            # A server closes when it has the client's close frame: what more could come?
            if self.until_close and any(frame.startswith("88") for frame in frames(bytes(self.received))["control"]):
                return "close heard"


async def say(case, writer, ear, breath=0):
    """Sends the case's pieces, then ends as it says."""
    tcp = writer.get_extra_info("socket")
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in case.pieces:
        if piece == "settle":
            if not ear.until_close:
                await ear.settled()
            continue
        writer.write(piece)
        await writer.drain()
        if breath or len(case.pieces) > 3:
            # Segments of their own.
            await asyncio.sleep(breath)
    if case.end == "finish":
        writer.write_eof()
    elif case.end == "reset":
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def say_and_hear(case, reader, writer, until_close=False, breath=0):
    ear = Ear(reader, until_close)

    async def saying():
        try:
            await say(case, writer, ear, breath)
        except (ConnectionError, OSError):
            pass

    talking = asyncio.ensure_future(saying())
    end = await ear.hear()
    await talking
    writer.close()
    # After our reset nothing is told of the other end.
    return {**frames(bytes(ear.received)), "end": "ours" if case.end == "reset" else end}


# --- a client that says the cases to a real server -------------------------------------------------------------


async def as_client(case, address, breath=0):
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [
        "GET /chat HTTP/1.1", "Host: shop.example", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}",
    ]
    lines += [f"Sec-WebSocket-Extensions: {DEFLATE}"] if case.deflate else []
    writer.write("\r\n".join(lines + ["", ""]).encode())
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)).decode("latin1").split("\r\n")
    about = [line for line in head[1:] if line.lower().startswith(("sec-websocket", "upgrade", "connection"))]
    return {"head": [head[0]] + sorted(about), **await say_and_hear(case, reader, writer, breath=breath)}


HANDSHAKES = {
    "no key": {"Sec-WebSocket-Key": None},
    "a key that is none": {"Sec-WebSocket-Key": "short"},
    "no version": {"Sec-WebSocket-Version": None},
    "version 12": {"Sec-WebSocket-Version": "12"},
    "no Connection": {"Connection": None},
    "no Upgrade": {"Upgrade": None},
    "another Upgrade": {"Upgrade": "spdy"},
    "Upgrade in capitals": {"Upgrade": "WebSocket", "Connection": "keep-alive, UPGRADE"},
    "a subprotocol": {"Sec-WebSocket-Protocol": "chat, superchat"},
    "an origin": {"Origin": "http://elsewhere.example"},
    "extensions nobody knows": {"Sec-WebSocket-Extensions": "x-unknown; a=1, x-other"},
    "a window of 9 bits": {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=9"},
    "a window that is none": {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=99"},
}


async def handshake(changes, address):
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    fields = {
        "Host": "shop.example", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY, **changes,
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    writer.write("\r\n".join(["GET /chat HTTP/1.1", *lines, "", ""]).encode())
    try:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)).decode("latin1").split("\r\n")
    except asyncio.IncompleteReadError:
        head = ["no answer: none"]
    writer.close()
    about = [line for line in head[1:] if line.lower().startswith("sec-websocket")]
    return {"head": [head[0].split(" ")[1]] + sorted(about)}


# --- a real client that hears the cases from a server ----------------------------------------------------------


async def as_server(number, address, transcripts):
    """What the real client made of the case, and what the server heard from it."""
    said, case = {"messages": []}, SERVER_CASES[number]
    try:
        compression = "deflate" if case.deflate else None
        uri = f"ws://{address}/{number}"
        async with websockets.connect(uri, max_size=LARGEST, compression=compression, ping_interval=None, close_timeout=3) as peer:
            try:
                while True:
                    message = await asyncio.wait_for(peer.recv(), PATIENCE)
                    payload = message.encode() if isinstance(message, str) else message
                    said["messages"].append([type(message).__name__, shorten(payload)])
            except websockets.ConnectionClosed as closed:
                parts = [(part.code, part.reason) if part else None for part in (closed.rcvd, closed.sent)]
                said["closed"] = [type(closed).__name__, *parts]
    except Exception as error:  # noqa: BLE001 whatever it says is to be the same both ways
        said["error"] = f"{type(error).__name__}: {error}"
    heard = await transcripts(number)
    return {**said, "server": heard}


SERVER_CASES = all_cases(masks=False)


class Sayer:
    """Says case NUMBER to whoever asks for /NUMBER, and tells at /heard/NUMBER what came back from the last one."""

    def __init__(self):
        self.heard = {}

    async def serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        path = head.split(" ")[1].strip("/")
        if path.startswith("heard/"):
            number = int(path[6:])
            done = self.heard.setdefault(number, asyncio.get_running_loop().create_future())
            body = json.dumps(await asyncio.wait_for(done, PATIENCE * 2)).encode()
            del self.heard[number]
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            writer.close()
            return
        number, fields = int(path), dict(line.lower().split(": ", 1) for line in head.split("\r\n") if ": " in line)
        key = next(line for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key")).split(": ")[1]
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
        lines += ["Sec-WebSocket-Extensions: permessage-deflate"] if SERVER_CASES[number].deflate else []
        assert SERVER_CASES[number].deflate == ("sec-websocket-extensions" in fields)
        writer.write("\r\n".join(lines + ["", ""]).encode())
        result = await say_and_hear(SERVER_CASES[number], reader, writer, until_close=True)
        done = self.heard.setdefault(number, asyncio.get_running_loop().create_future())
        if not done.done():
            done.set_result(result)


def transcripts_of(address):
    async def ask(number):
        host, port = address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /heard/{number} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return json.loads(answer.split(b"\r\n\r\n", 1)[1])

    return ask


# --- both, and the comparison ----------------------------------------------------------------------------------


async def peers():
    async def echo(peer, *_):
        try:
            async for message in peer:
                await peer.send(message)
        except websockets.ConnectionClosed:
            pass

    # Frames are compared, so the server does not compress by itself unless asked to.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    echoing = await websockets.serve(echo, "127.0.0.1", 0, max_size=LARGEST, ping_interval=None, close_timeout=2)
    saying = await asyncio.start_server(Sayer().serve, "127.0.0.1", 0, limit=1 << 20)
    ports = [next(iter(server.sockets)).getsockname()[1] for server in (echoing, saying)]
    print(*ports, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def differs(direct, through):
    """None, or a way in which a connection through everup behaved that none of the direct ones did."""
    seen, met = [], []
    for run in range(RUNS):
        seen.append(await direct(BREATH if run >= RUNS // 2 else 0))
        met.append(await through())
        if met[-1] in seen:
            return None
        again = [one for one in met if one in seen]
        if again:
            return None
    return seen[-1], met[-1]


async def compare(one_of, echo, echo_through, sayer, sayer_through):
    heard = transcripts_of(sayer)
    tried, different = 0, 0
    every = [
        ("client says", case.name, lambda at, breath=0, case=case: as_client(case, at, breath), echo, echo_through)
        for case in all_cases(masks=True)
    ]
    every += [
        ("handshake", name, lambda at, _=0, changes=changes: handshake(changes, at), echo, echo_through)
        for name, changes in HANDSHAKES.items()
    ]
    every += [
        ("server says", case.name, lambda at, _=0, number=number: as_server(number, at, heard), sayer, sayer_through)
        for number, case in enumerate(SERVER_CASES)
    ]
    every = every[:: int(one_of)]
    for direction, name, attempt, direct, through in every:
        tried += 1
        found = await differs(lambda breath: attempt(direct, breath), lambda: attempt(through))
        if found:
            different += 1
            print(f"{direction}: {name}\n  direct  {json.dumps(found[0])[:600]}\n  through {json.dumps(found[1])[:600]}")
    counts = {what: sum(1 for case in every if case[0] == what) for what in ("client says", "handshake", "server says")}
    print(f"{tried} cases {counts}, {different} of them differ (websockets {websockets.__version__})")
    return 1 if different or not tried else 0


if __name__ == "__main__":
    if sys.argv[1] == "peers":
        asyncio.run(peers())
    else:
        sys.exit(asyncio.run(compare(*sys.argv[2:7])))
