"""Orders with Flask, stored by a service that is called by gRPC: `grpc_store.py`."""

import os

import flask
import grpc
import psycopg_pool

channel = None


def store(order_id, nonce):
    # A channel for each of gunicorn's processes: gRPC's threads do not survive a fork.
    global channel
    if channel is None:
        channel = grpc.insecure_channel("127.0.0.1:" + os.environ["STORE_PORT"])
    # Field 1 of the message, without generated code: what is sent is the same.
    message, rest = bytearray(b"\x08"), order_id
    while rest > 0x7F:
        message.append(rest & 0x7F | 0x80)
        rest >>= 7
    message.append(rest)
    channel.unary_unary("/shop.v1.Orders/Store")(bytes(message), metadata=[("x-nonce", nonce)])


shop = flask.Flask(__name__)
pool = None
LOOK = "SELECT status FROM orders WHERE id = %s AND (nonce = %s OR customer IS NOT NULL)"


def database():
    global pool
    if pool is None:
        pool = psycopg_pool.ConnectionPool(os.environ["DATABASE_URL"], min_size=4, max_size=8, open=True)
    return pool.connection()


@shop.post("/orders")
def make():
    order, nonce = flask.request.get_json(), flask.request.headers["x-nonce"]
    store(order["order_id"], nonce + "-c")
    return {"order_id": order["order_id"]}


@shop.get("/orders/<int:order>")
def look(order):
    with database() as connection:
        row = connection.execute(LOOK, (order, flask.request.headers["x-nonce"] + "-a")).fetchone()
    return {"order_id": order, "status": row[0]}


@shop.post("/orders/<int:order>/confirm")
def confirm(order):
    nonce = flask.request.headers["x-nonce"]
    with database() as connection:
        connection.execute(LOOK + " FOR UPDATE", (order, nonce + "-a")).fetchone()
        connection.execute(
            "UPDATE orders SET status = 'confirmed', nonce = %s WHERE id = %s", (nonce + "-b", order)
        )
    return {"order_id": order}
