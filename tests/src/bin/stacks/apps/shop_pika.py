"""Orders with Flask and pika, with confirms and mandatory messages; `worker` as the argument takes them, some only the second time."""

import json
import os
import sys
import threading

import flask
import pika
import psycopg
import psycopg_pool

local = threading.local()


def connect():
    return pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()


def publish(queue, order_id, nonce):
    # A connection of pika belongs to a thread.
    if not hasattr(local, "channel"):
        local.channel = connect()
        local.channel.confirm_delivery()
    body = json.dumps({"order_id": order_id, "nonce": nonce})
    properties = pika.BasicProperties(content_type="application/json")
    local.channel.basic_publish("", queue, body.encode(), properties, mandatory=True)


def work():
    connection = psycopg.connect(os.environ["DATABASE_URL"])
    channel = connect()
    channel.queue_declare("made")
    channel.basic_qos(prefetch_count=4)

    def take(channel, method, properties, body):
        order = json.loads(body)
        if order["order_id"] % 4 == 0 and not method.redelivered:
            channel.basic_nack(method.delivery_tag, requeue=True)
            return
        with connection.transaction():
            connection.execute(
                "UPDATE orders SET status = 'planned', nonce = %s WHERE id = %s",
                (order["nonce"] + "-a", order["order_id"]),
            )
            connection.execute(
                "INSERT INTO events (order_id, what, nonce) VALUES (%s, 'planned', %s)",
                (order["order_id"], order["nonce"] + "-b"),
            )
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume("made", take)
    print("ready", flush=True)
    channel.start_consuming()


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
    with database() as connection:
        connection.execute(
            "INSERT INTO orders (id, customer, nonce) VALUES (%s, %s, %s)",
            (order["order_id"], order["customer"], nonce + "-a"),
        )
    publish("made", order["order_id"], nonce + "-p")
    try:
        publish("nowhere", order["order_id"], nonce + "-u")
    except pika.exceptions.UnroutableError:
        pass
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


if sys.argv[1:] == ["worker"]:
    work()
