"""A judge on 127.0.0.1 that speaks the chat protocol over real sockets and misbehaves on demand."""

import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-secret-0123456789abcdef"


def completion(text, **more):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps(
        {"id": "1", "object": "chat.completion", "model": "served-1", "choices": [choice], **more}
    ).encode()


def good_reply(body):
    """Sentences become steps; every step is right. `[scores …]` in a response's first step sets its scores."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        sentences = content.split("\n")[1].split(". ")
        return "<step>\n" + "\n".join(f"Step {n}: {s}" for n, s in enumerate(sentences, 1)) + "\n</step>"
    text = content[-1]["text"]
    steps = re.findall(r"^Step \d+: .*$", text, re.MULTILINE)
    wanted = re.search(r"\[scores ([^\]]*)\]", text)
    scores = wanted[1].split() if wanted else ["1/1"] * len(steps)
    return "<score>" + ", ".join(f"Step {n}: {score}" for n, score in enumerate(scores, 1)) + "</score>"


class JudgeServer:
    """`misbehave(body, nth)` may return the name of a fault for the nth arrival of a request, from 1."""

    def __init__(self):
        self.requests, self.times, self.authorizations = [], [], []
        self.misbehave = lambda body, nth: None
        self.delay_s = self.peak = self._active = 0
        self.retry_after = "0.3"
        self._seen, self._lock, self.released = Counter(), threading.Lock(), threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                server.handle(self)

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_):
                pass  # clients that hang up are part of the tests

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self):
        self.released.set()
        self._http.shutdown()
        self._http.server_close()

    def handle(self, http):
        body = json.loads(http.rfile.read(int(http.headers["Content-Length"])))
        with self._lock:
            self.requests.append(body)
            self.times.append(time.monotonic())
            self.authorizations.append(http.headers["Authorization"])
            seen = json.dumps(body, sort_keys=True)
            self._seen[seen] += 1
            nth = self._seen[seen]
            self._active += 1
            self.peak = max(self.peak, self._active)
        fault = self.misbehave(body, nth)
        time.sleep(self.delay_s)
        with self._lock:
            self._active -= 1
        if fault is None:
            self.send(http, 200, completion(good_reply(body)))
        else:
            getattr(self, f"_{fault}")(http)

    @staticmethod
    def send(http, status, content, length=None, **headers):
        http.send_response(status)
        http.send_header("Content-Type", "application/json")
        http.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            http.send_header(name.replace("_", "-"), value)
        http.end_headers()
        http.wfile.write(content)

    def _garbage(self, http):
        self.send(http, 200, completion("I would rather talk about the weather."))

    def _not_json(self, http):
        self.send(http, 200, b"<html>gateway</html>")

    def _wrong_shape(self, http):
        self.send(http, 200, json.dumps({"choices": [], "error": KEY}).encode())

    def _half(self, http):
        content = completion("<step>Step 1: happy</step>")
        self.send(http, 200, content[: len(content) // 2], length=len(content))
        http.close_connection = True

    def _hang(self, http):
        self.released.wait(5)
        http.close_connection = True

    def _busy(self, http):
        self.send(http, 429, b'{"error": {"message": "slow down"}}', Retry_After=self.retry_after)

    def _broken(self, http):
        self.send(http, 500, f'{{"error": "crashed while serving {KEY}"}}'.encode())

    def _refused(self, http):
        self.send(http, 401, f'{{"error": {{"message": "Incorrect API key provided: {KEY}"}}}}'.encode())

    def _bad_request(self, http):
        self.send(http, 400, b'{"error": {"message": "content filter"}}')

    def _cut(self, http):
        choice = {"message": {"content": None}, "finish_reason": "length"}
        self.send(http, 200, json.dumps({"choices": [choice]}).encode())

    def _echo(self, http):
        self.send(http, 200, completion(f"your key is {KEY}"))
