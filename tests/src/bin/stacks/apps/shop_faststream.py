"""What comes after an order is made: two stages of one FastStream consumer, each with work of its own in psycopg's pool."""

import os

import psycopg_pool
from faststream import FastStream
from faststream.rabbit import RabbitBroker

from orders import NOTE, PLAN

broker = RabbitBroker(os.environ["AMQP_URL"])
app = FastStream(broker)
pool = psycopg_pool.AsyncConnectionPool(os.environ["DATABASE_URL"], min_size=4, max_size=8, open=False)


@app.on_startup
async def begin():
    await pool.open()


@app.after_startup
async def tell():
    print("stages are ready")


@app.on_shutdown
async def end():
    await pool.close()


@broker.subscriber("stages.first")
async def made(message: dict):
    order, nonce = message["order_id"], message["nonce"]
    async with pool.connection() as connection:
        await connection.execute(PLAN, (nonce + "-a", order))
    await broker.publish({"order_id": order, "nonce": nonce + "-p"}, "stages.second")


@broker.subscriber("stages.second")
async def planned(message: dict):
    order, nonce = message["order_id"], message["nonce"]
    async with pool.connection() as connection:
        await connection.execute(PLAN, (nonce + "-a", order))
        await connection.execute(NOTE, (order, nonce + "-b"))
