"""Orders with Flask; what comes after an order is made is an actor of Dramatiq: `dramatiq shop_dramatiq`."""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

import orders

dramatiq.set_broker(RabbitmqBroker(url=os.environ["AMQP_URL"]))


@dramatiq.actor(max_retries=0)
def made(order_id, nonce):
    with orders.database() as connection:
        orders.plan(connection, order_id, nonce)


shop = orders.application(lambda order_id, nonce: made.send(order_id=order_id, nonce=nonce + "-p"))
