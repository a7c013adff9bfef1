"""What a program sees of its server, by Debian's client libraries, as lines of text: the same directly and through everup.

smoke.py origin                  an HTTP server; prints its address
smoke.py redis|memcached|http HOST:PORT
"""

import gzip
import hashlib
import http.server
import sys
import threading


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def content(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def do_GET(self):
        body, path = self.content(), self.path
        if path.startswith("/status/"):
            self.answer(int(path[8:]))
        elif path.startswith("/redirect/"):
            left = int(path[10:])
            self.answer(302, Location=f"/redirect/{left - 1}" if left else "/cookies")
        elif path == "/set":
            self.answer(200, Set_Cookie="taste=sweet; Path=/")
        elif path == "/cookies":
            self.answer(200, self.headers.get("Cookie", "none").encode())
        elif path == "/gzip":
            self.answer(200, gzip.compress(b"packed " * 1000, mtime=0), Content_Encoding="gzip")
        elif path == "/large":
            self.answer(200, b"0123456789abcdef" * (1 << 18))
        elif path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(50):
                piece = b"%d," % number * 100
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        elif path == "/until-close":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"and no length")
            self.close_connection = True
        else:
            digest = hashlib.sha1(body).hexdigest()
            self.answer(200, f"{self.command} {path} {len(body)} {digest} {self.headers.get('X-Own')}".encode(), ETag='"1"')

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_GET


def origin():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("%s:%d" % server.server_address, flush=True)
    sys.stdin.read()


def over_http(address):
    import requests

    url, session = f"http://{address}", requests.Session()

    def say(answer):
        digest = hashlib.sha1(answer.content).hexdigest()
        kept = {name: answer.headers.get(name) for name in ("Content-Type", "Content-Encoding", "ETag", "Location")}
        history = [one.status_code for one in answer.history]
        print(answer.request.method, answer.status_code, answer.reason, len(answer.content), digest, kept, history)

    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        say(session.request(method, url + "/echo?q=a%20b", headers={"X-Own": "header"}))
    say(session.post(url + "/form", data={"a": "1", "b": "ü"}))
    say(session.post(url + "/file", data=b"\0" * 100_000, headers={"Content-Type": "image/x"}))
    say(session.post(url + "/chunked", data=(b"piece %d" % number for number in range(100))))
    say(session.post(url + "/big", data=b"x" * (4 << 20)))
    say(session.get(url + "/redirect/5"))
    say(session.get(url + "/set"))
    say(session.get(url + "/redirect/1"))
    print(session.cookies.get_dict())
    for path in ("/gzip", "/large", "/chunks", "/until-close"):
        say(session.get(url + path))
    with session.get(url + "/chunks", stream=True) as streamed:
        print(sum(len(piece) for piece in streamed.iter_content(777)))
    for status in (204, 304, 400, 404, 418, 500, 503):
        say(session.get(f"{url}/status/{status}"))
    print({session.get(url + f"/again/{number}").status_code for number in range(100)})


def over_redis(address):
    import redis

    host, port = address.rsplit(":", 1)
    one, two = (redis.Redis(host=host, port=int(port), socket_timeout=20) for _ in range(2))
    one.flushall()
    print(one.ping(), one.set("key", "value"), one.get("key"), one.get("none"), one.type("key"))
    large = bytes(range(256)) * (1 << 14)
    print(one.set("large", large), hashlib.sha1(one.get("large")).hexdigest(), one.strlen("large"))
    with one.pipeline() as pipe:
        for number in range(2000):
            pipe.rpush("list", number)
        print(pipe.execute()[-1], one.lrange("list", -2, -1))
    with one.pipeline() as pipe:
        pipe.watch("key")
        two.set("key", "changed")
        pipe.multi()
        pipe.set("key", "lost")
        try:
            print(pipe.execute())
        except redis.WatchError as error:
            print("watched:", error)
    print(one.eval("return {KEYS[1], ARGV[1]}", 1, "k", "a"), sorted(one.scan_iter(match="l*")))
    print(one.zadd("sorted", {"a": 1, "b": 2}), one.zrange("sorted", 0, -1, withscores=True))
    listener = one.pubsub()
    listener.subscribe("news")
    print(listener.get_message(timeout=10)["type"], two.publish("news", "hello"), listener.get_message(timeout=10)["data"])
    listener.close()
    waiting = threading.Timer(0.3, lambda: two.lpush("queue", "work"))
    waiting.start()
    print(one.blpop("queue", timeout=20), one.blpop("empty", timeout=1))
    try:
        one.execute_command("NO-SUCH-COMMAND")
    except redis.ResponseError as error:
        print(error)


def over_memcached(address):
    from pymemcache.client.base import Client

    host, port = address.rsplit(":", 1)
    client = Client((host, int(port)), timeout=20, connect_timeout=20)
    print(client.flush_all(), client.set("key", b"value", noreply=False), client.get("key"), client.get("none"))
    print(client.add("key", b"other", noreply=False), client.replace("key", b"new", noreply=False))
    print(client.append("key", b"er", noreply=False), client.prepend("key", b"a ", noreply=False), client.get("key"))
    value, token = client.gets("key")
    print(value, client.cas("key", b"mine", token, noreply=False), client.cas("key", b"late", token, noreply=False))
    print(client.set("number", b"41", noreply=False), client.incr("number", 1), client.decr("number", 2))
    large = bytes(range(256)) * 3900
    print(client.set("large", large, noreply=False), hashlib.sha1(client.get("large")).hexdigest())
    many = {f"key-{number}": b"%d" % number for number in range(500)}
    print(client.set_many(many, noreply=False), client.get_many(list(many)) == many)
    print(client.delete("key", noreply=False), client.delete("key", noreply=False), client.touch("number", 60, noreply=False))
    for key in ("with blank", "k" * 300):
        try:
            client.set(key, b"?")
        except Exception as error:  # noqa: BLE001 whatever it is, it is to be the same
            print(type(error).__name__, error)
    client.close()


if __name__ == "__main__":
    if sys.argv[1] == "origin":
        origin()
    else:
        {"http": over_http, "redis": over_redis, "memcached": over_memcached}[sys.argv[1]](sys.argv[2])
