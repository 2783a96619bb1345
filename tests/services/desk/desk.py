"""The service desk: rejected orders from RabbitMQ's dead-letter queue in, their status at the shop out.

One thread, pika's blocking connection, a new HTTP connection for each message.
"""

import hashlib
import http.client
import json
import os
import sys
from urllib.parse import urlsplit

import pika

from truth import Work

SHOP = urlsplit(os.environ["SHOP_URL"])


def handle(channel, delivery, _properties, body):
    order = json.loads(body)["order_id"]
    work = Work(order)
    entry = work.begin("deliver", exchange=delivery.exchange, routing_key=delivery.routing_key, queue="orders.dead",
                       body=hashlib.sha256(body).hexdigest())
    kind = http.client.HTTPSConnection if SHOP.scheme == "https" else http.client.HTTPConnection
    connection = kind(SHOP.hostname, SHOP.port, timeout=60)
    path = f"/orders/{order}/status"
    call = work.begin("http.client", method="PUT", path=path)
    connection.request("PUT", path, json.dumps({"order_id": order, "status": "rejected", "note": "dead letter"}), {"content-type": "application/json"})
    response = connection.getresponse()
    response.read()
    work.end(call, status=response.status)
    connection.close()
    channel.basic_ack(delivery.delivery_tag)
    work.end(entry, settled="ack")
    work.write()


if __name__ == "__main__":
    channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
    channel.exchange_declare("orders.dead", "fanout", durable=True)
    channel.queue_declare("orders.dead", durable=True)
    channel.queue_bind("orders.dead", "orders.dead")
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume("orders.dead", handle)
    print("desk: ready", file=sys.stderr, flush=True)
    channel.start_consuming()
