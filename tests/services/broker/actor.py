"""A client of a message broker that does what it is told: a list of steps in JSON, one after the other.

    actor.py URL STEPS

Ends with success when all steps are done, prints "ready" where it is told to, and gives up after half a minute.
"""

import json
import signal
import socket
import sys
import time

import pika


class Actor:
    def __init__(self, url):
        self.url = url
        self.deliveries = []
        self.connect()

    def connect(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(self.url))
        self.channel = self.connection.channel()

    def exchange(self, name, kind):
        self.channel.exchange_declare(name, exchange_type=kind)

    def queue(self, name, arguments=None):
        self.channel.queue_declare(name, arguments=arguments)

    def bind(self, queue, exchange, key, arguments=None):
        self.channel.queue_bind(queue, exchange, key, arguments=arguments)

    def confirm(self):
        self.channel.confirm_delivery()

    def prefetch(self, count):
        self.channel.basic_qos(prefetch_count=count)

    def publish(self, exchange, key, body, properties=None):
        self.channel.basic_publish(exchange, key, body.encode(), pika.BasicProperties(**(properties or {})))

    def consume(self, queue, tag, auto_ack=False):
        def delivered(_channel, method, properties, body):
            self.deliveries.append((method, properties, body))

        self.channel.basic_consume(queue, delivered, consumer_tag=tag, auto_ack=auto_ack)

    def receive(self, count):
        """Waits until so many messages have come since the last time."""
        while len(self.deliveries) < count:
            self.connection.process_data_events(0.05)
        self.batch, self.deliveries = self.deliveries[:count], self.deliveries[count:]

    def settle(self, number, how):
        """The delivery of that number of the last batch, from 0."""
        tag = self.batch[number][0].delivery_tag
        if how == "ack":
            self.channel.basic_ack(tag)
        elif how == "ack up to":
            self.channel.basic_ack(tag, multiple=True)
        elif how == "reject":
            self.channel.basic_reject(tag, requeue=False)
        elif how == "requeue":
            self.channel.basic_nack(tag, requeue=True)
        else:
            raise ValueError(how)

    def answer(self, number, body):
        """Answers the delivery of that number of the last batch."""
        _, properties, _ = self.batch[number]
        self.publish("", properties.reply_to, body, {"correlation_id": properties.correlation_id})

    def get(self, queue):
        while True:
            method, properties, body = self.channel.basic_get(queue)
            if method is not None:
                self.batch = [(method, properties, body)]
                return
            time.sleep(0.02)

    def take_all(self, queue, count):
        """Every message as it comes, acknowledged at once, until the queue's count is reached by this and others."""
        idle = 0
        taken = 0
        while taken < count and idle < 20:
            self.connection.process_data_events(0.05)
            idle = 0 if self.deliveries else idle + 1
            for method, _, _ in self.deliveries:
                self.channel.basic_ack(method.delivery_tag)
                taken += 1
            self.deliveries = []

    def lose(self):
        """The connection breaks without a word, and another one is made."""
        self.connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
        self.connect()

    def ready(self):
        print("ready", flush=True)

    def wait(self, ms):
        until = time.monotonic() + ms / 1000
        while time.monotonic() < until:
            self.connection.process_data_events(0.02)

    def close(self):
        self.connection.close()


def main():
    signal.alarm(30)
    actor = Actor(sys.argv[1])
    for name, *arguments in json.loads(sys.argv[2]):
        getattr(actor, name)(*arguments)
    actor.close()


main()
