"""The shop: customers' orders over HTTP in, orders in PostgreSQL, models in the object store, submissions to the CRM out.

One thread per connection, a pool of psycopg2 connections, kept-alive connections to store and CRM.
"""

import http.client
import json
import os
import re
import ssl
import sys
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import psycopg2
import psycopg2.pool

from truth import Work


class Database:
    """A pool of connections. Threads wait for a free one."""

    def __init__(self, dsn, size):
        self.pool = psycopg2.pool.ThreadedConnectionPool(size, size, dsn)
        self.free = threading.BoundedSemaphore(size)

    @contextmanager
    def connection(self, autocommit):
        with self.free:
            connection = self.pool.getconn()
            connection.autocommit = autocommit
            try:
                yield connection
            finally:
                self.pool.putconn(connection)

    def query(self, work, sql, args=()):
        """One statement on its own."""
        with self.connection(autocommit=True) as connection:
            return Transaction(work, connection).query(sql, args)

    @contextmanager
    def transaction(self, work):
        """Statements between BEGIN and COMMIT; ROLLBACK when one fails."""
        with self.connection(autocommit=False) as connection:
            transaction = Transaction(work, connection)
            try:
                yield transaction
            except BaseException:
                transaction.finish("ROLLBACK", connection.rollback)
                raise
            transaction.finish("COMMIT", connection.commit)


class Transaction:
    def __init__(self, work, connection):
        self.work = work
        self.connection = connection

    def query(self, sql, args=()):
        with self.connection.cursor() as cursor:
            begin = None
            if not self.connection.autocommit and self.connection.status == psycopg2.extensions.STATUS_READY:
                begin = self.work.begin("sql", text="BEGIN", error=None)
            entry = self.work.begin("sql", text=cursor.mogrify(sql, args).decode(), error=None)
            try:
                cursor.execute(sql, args)
            except psycopg2.Error as error:
                self.work.end(entry, error=error.pgcode)
                raise
            finally:
                if begin:
                    self.work.end(begin)
                if "end_ns" not in entry:
                    self.work.end(entry)
            return cursor.fetchall() if cursor.description else []

    def finish(self, text, action):
        entry = self.work.begin("sql", text=text, error=None)
        action()
        self.work.end(entry)


class Peer:
    """Another HTTP service, over connections that are kept open."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.idle = []
        self.lock = threading.Lock()

    def call(self, work, method, path, body=None, headers=None):
        """Status and body of the answer."""
        with self.lock:
            connection = self.idle.pop() if self.idle else None
        connection = connection or self.kind(*self.address, timeout=60)
        entry = work.begin("http.client", method=method, path=path)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        answer = response.read()
        work.end(entry, status=response.status)
        if not response.will_close:
            with self.lock:
                self.idle.append(connection)
        return response.status, answer


DATABASE = Database(os.environ["DATABASE_URL"], int(os.environ.get("POOL_SIZE", "6")))
STORE = Peer(os.environ["STORE_URL"])
CRM = Peer(os.environ["CRM_URL"])


def list_stock(work, _request):
    rows = DATABASE.query(work, "SELECT material, available FROM stock ORDER BY material LIMIT 10")
    return 200, {"stock": [{"material": material, "available": available} for material, available in rows]}


def list_orders(work, request):
    user, limit = int(request.query["user_id"][0]), int(request.query.get("limit", ["10"])[0])
    rows = DATABASE.query(work, "SELECT id, status, quantity FROM orders WHERE user_id = %s ORDER BY id DESC LIMIT %s", (user, limit))
    if len(rows) == 1:
        # A list of one order is about that order.
        work.order = rows[0][0]
    return 200, {"user_id": user, "orders": [{"order_id": row[0], "status": row[1], "quantity": row[2]} for row in rows]}


def create_order(work, request):
    wish = request.json()
    with DATABASE.transaction(work) as transaction:
        stock = transaction.query("SELECT available FROM stock WHERE material = %s LIMIT 10", (wish["material"],))
        if not stock or stock[0][0] < wish["quantity"]:
            return 409, {"error": "not in stock"}
        [(order,)] = transaction.query(
            "INSERT INTO orders (user_id, material, quantity, source, status) VALUES (%s, %s, %s, %s, 'created') RETURNING id",
            (wish["user_id"], wish["material"], wish["quantity"], wish.get("source", "web")))
        work.order = order
        transaction.query("INSERT INTO order_events (order_id, status, note) VALUES (%s, 'created', %s)",
                          (order, f"{wish['quantity']} pieces for user {wish['user_id']}"))
    return 201, {"order_id": order, "status": "created", "user_id": wish["user_id"], "quantity": wish["quantity"]}


def get_order(work, _request, order):
    rows = DATABASE.query(work, "SELECT id, user_id, quantity, status FROM orders WHERE id = %s LIMIT 1", (order,))
    if not rows:
        return 404, {"error": "no such order"}
    return 200, {"order_id": rows[0][0], "user_id": rows[0][1], "quantity": rows[0][2], "status": rows[0][3]}


def upload_model(work, request, order):
    file_name, content = request.uploaded_file()
    key = f"/models/{uuid.uuid4().hex}.{file_name.rsplit('.', 1)[-1]}"
    headers = {"content-type": "application/octet-stream", "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-storage-class": "STANDARD"}
    status, _ = STORE.call(work, "PUT", key, content, headers)
    if status >= 300:
        DATABASE.query(work, "UPDATE orders SET status = 'upload_failed', changed = now() WHERE id = %s", (order,))
        return 502, {"order_id": order, "status": "upload_failed", "error": f"the store answered {status}"}
    with DATABASE.transaction(work) as transaction:
        transaction.query("UPDATE orders SET model_key = %s, model_name = %s, status = 'model_stored' WHERE id = %s", (key, file_name, order))
        transaction.query("INSERT INTO order_events (order_id, status, note) VALUES (%s, 'model_stored', %s)", (order, f"{len(content)} bytes"))
    return 201, {"order_id": order, "status": "model_stored", "size": len(content)}


def submit_order(work, _request, order):
    rows = DATABASE.query(work, "SELECT user_id, material, quantity, model_key FROM orders WHERE id = %s LIMIT 1", (order,))
    if not rows:
        return 404, {"error": "no such order"}
    user, material, quantity, key = rows[0]
    body = {"order_id": order, "user_id": user, "material": material, "quantity": quantity, "model_key": key}
    status, _ = CRM.call(work, "POST", "/api/orders", json.dumps(body), {"content-type": "application/json"})
    if status != 201:
        return 502, {"order_id": order, "error": f"the CRM answered {status}"}
    DATABASE.query(work, "UPDATE orders SET status = 'submitted', changed = now() WHERE id = %s", (order,))
    return 200, {"order_id": order, "status": "submitted"}


def set_status(work, request, order):
    change = request.json()
    with DATABASE.transaction(work) as transaction:
        transaction.query("UPDATE orders SET status = %s, changed = now() WHERE id = %s", (change["status"], order))
        transaction.query("INSERT INTO order_events (order_id, status, note) VALUES (%s, %s, %s)", (order, change["status"], change.get("note")))
    return 200, {"order_id": order, "status": change["status"]}


ROUTES = [
    ("GET", r"/stock", list_stock),
    ("GET", r"/orders", list_orders),
    ("POST", r"/orders", create_order),
    ("GET", r"/orders/(\d+)", get_order),
    ("POST", r"/orders/(\d+)/model", upload_model),
    ("POST", r"/orders/(\d+)/submit", submit_order),
    ("PUT", r"/orders/(\d+)/status", set_status),
]


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Shop/1.0"

    def log_message(self, *_):
        pass

    def json(self):
        return json.loads(self.body)

    def uploaded_file(self):
        """Name and content of the one file in a multipart body (RFC 7578)."""
        boundary = re.search(r'boundary="?([^";]+)', self.headers["content-type"])[1].encode()
        for part in self.body.split(b"--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            name = re.search(rb'filename="([^"]*)"', head)
            if name:
                return name[1].decode(), content[:-2]
        raise ValueError("no file in the upload")

    def serve(self):
        target = urlsplit(self.path)
        self.query = parse_qs(target.query)
        work = Work()
        entry = work.begin("http.server", method=self.command, path=target.path)
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
        status, answer = self.handle_with(work, target.path)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        work.end(entry, status=status)
        work.write()

    def handle_with(self, work, path):
        for method, pattern, handler in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == self.command:
                args = [int(group) for group in match.groups()]
                work.order = args[0] if args else None
                try:
                    return handler(work, self, *args)
                except psycopg2.Error as error:
                    return 500, {"order_id": work.order, "error": str(error).splitlines()[0]}
                except (OSError, http.client.HTTPException) as error:
                    return 502, {"order_id": work.order, "error": f"no answer: {error}"}
        return 404, {"error": "no such page"}

    do_GET = do_POST = do_PUT = serve


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Request)
    if "TLS_CERTIFICATE" in os.environ:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.environ["TLS_CERTIFICATE"], os.environ["TLS_KEY"])
        # A handshake is its own thread's work, with the first read.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print("shop: ready", file=sys.stderr, flush=True)
    server.serve_forever()
