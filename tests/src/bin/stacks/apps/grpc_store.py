"""The service that stores orders: gRPC, its pool of threads, and psycopg's pool."""

import os
from concurrent import futures

import grpc

import orders


def store(message, context):
    order = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(message[1:]))
    nonce = dict(context.invocation_metadata())["x-nonce"]
    orders.store(order, "somebody", nonce)
    return message


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
handlers = {"Store": grpc.unary_unary_rpc_method_handler(store)}
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.v1.Orders", handlers)])
server.add_insecure_port("127.0.0.1:" + os.environ["STORE_PORT"])
server.start()
server.wait_for_termination()
