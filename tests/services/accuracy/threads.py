"""A thread per connection, blocking calls: http.server, psycopg2, http.client, pika. As a worker: a thread per
consumer."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import blocking
import plan


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        length = int(self.headers.get("content-length", "0"))
        self.rfile.read(length)
        nonce = plan.nonce_of(self.path)
        try:
            blocking.carry_out(nonce, self.answer)
            plan.done(nonce, "-")
        except Exception as error:
            plan.failed(nonce, error)
            self.close_connection = True

    do_POST = do_GET

    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 512


if os.environ.get("ROLE") == "worker":
    blocking.declare("threads")
    for _ in range(4):
        threading.Thread(target=blocking.consume, args=("threads",), daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()
else:
    Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
