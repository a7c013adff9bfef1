"""Reads byte strings (one per line, in hexadecimal) as HTTP/1.1 requests with h11 and says for each where its messages end."""
import json
import sys

import h11


def read(data):
    messages, connection = [], h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    target, body = "", b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return messages, None, False
            if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return messages, None, True
            if isinstance(event, h11.Request):
                target, body = event.target.decode("latin1"), b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                rest, _ = connection.trailing_data
                messages.append({"end": len(data) - len(rest), "target": target, "body": body.hex()})
                connection.send(h11.Response(status_code=204, headers=[]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return messages, None, True
                connection.start_next_cycle()
    except h11.RemoteProtocolError as error:
        return messages, str(error), False


for line in sys.stdin:
    found, refused, ended = read(bytes.fromhex(line.strip()))
    print(json.dumps({"messages": found, "refused": refused, "ended": ended}))
