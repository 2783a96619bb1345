"""Orders with Flask, their models put into S3 by boto3."""

import os

import boto3

import orders

s3 = None


def bucket():
    # A client for each of gunicorn's processes; it may be used by several threads.
    global s3
    if s3 is None:
        s3 = boto3.client(
            "s3",
            endpoint_url="http://127.0.0.1:" + os.environ["STORE_PORT"],
            region_name="us-east-1",
            aws_access_key_id="shop",
            aws_secret_access_key="shop",
        )
        s3.create_bucket(Bucket="models")
    return s3


def made(order_id, nonce):
    bucket().put_object(
        Bucket="models",
        Key=f"orders/{order_id}/model.stl",
        Body=b"solid cube\n" * 20,
        Metadata={"nonce": nonce + "-c"},
    )


shop = orders.application(made)
