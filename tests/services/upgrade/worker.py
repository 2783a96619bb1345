"""Works on connections that live long: executes a statement it prepared once, publishes, and consumes what it published.

Arguments: the URLs of PostgreSQL and RabbitMQ. Says `turn N` after each turn, until it is stopped.
"""

import asyncio
import sys
import threading

import asyncpg
import pika

EXCHANGE, KEY, QUEUE = "orders", "created", "mes.orders"


def channel(url):
    return pika.BlockingConnection(pika.URLParameters(url)).channel()


def consume(url):
    def settle(link, method, _properties, _body):
        link.basic_ack(method.delivery_tag)

    consumer = channel(url)
    consumer.basic_consume(QUEUE, settle)
    consumer.start_consuming()


async def work(database, broker):
    publisher = channel(broker)
    publisher.exchange_declare(EXCHANGE)
    publisher.queue_declare(QUEUE)
    publisher.queue_bind(QUEUE, EXCHANGE, KEY)
    threading.Thread(target=consume, args=[broker], daemon=True).start()
    connection = await asyncpg.connect(database)
    statement = await connection.prepare("SELECT relname FROM pg_class WHERE relname = $1")
    turn = 0
    while True:
        turn += 1
        await statement.fetch("pg_class")
        publisher.basic_publish(EXCHANGE, KEY, b'{"turn": %d}' % turn)
        print("turn", turn, flush=True)
        await asyncio.sleep(0.05)


asyncio.run(work(sys.argv[1], sys.argv[2]))
