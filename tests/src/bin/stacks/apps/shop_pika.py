"""Orders with Flask and pika, with confirms and mandatory messages; `worker` as the argument takes them, some only the second time."""

import json
import os
import sys
import threading

import pika
import psycopg

import orders

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
            orders.plan(connection, order["order_id"], order["nonce"])
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume("made", take)
    print("ready", flush=True)
    channel.start_consuming()


def made(order_id, nonce):
    publish("made", order_id, nonce + "-p")
    try:
        publish("nowhere", order_id, nonce + "-u")
    except pika.exceptions.UnroutableError:
        pass


shop = orders.application(made)


if sys.argv[1:] == ["worker"]:
    work()
