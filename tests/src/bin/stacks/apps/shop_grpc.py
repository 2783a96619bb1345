"""Orders with Flask, stored by a service that is called by gRPC: `grpc_store.py`."""

import os

import grpc

import orders

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


shop = orders.application(lambda order_id, nonce: store(order_id, nonce + "-c"), stores=False)
