"""Orders with Django's ORM, its transactions and psycopg's pool under it, behind gunicorn: a project in one file."""

import json
import os
import urllib.parse

import django
from django.conf import settings
from django.db import models, transaction
from django.http import JsonResponse
from django.urls import path

database = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database.path[1:],
            "USER": database.username,
            "HOST": database.hostname,
            "PORT": database.port,
            "OPTIONS": {"pool": {"min_size": 4, "max_size": 8}},
        }
    },
)
django.setup()


class Order(models.Model):
    customer = models.TextField()
    nonce = models.TextField()
    status = models.TextField(default="new")

    class Meta:
        app_label = "shop"
        db_table = "orders"
        managed = False


def named(order, nonce):
    seen = models.Q(nonce=nonce) | models.Q(customer__isnull=False)
    return Order.objects.filter(seen, id=order)


def make(request):
    order = json.loads(request.body)
    nonce = request.headers["x-nonce"] + "-a"
    Order.objects.create(id=order["order_id"], customer=order["customer"], nonce=nonce)
    return JsonResponse({"order_id": order["order_id"]})


def look(request, order):
    status = named(order, request.headers["x-nonce"] + "-a").values_list("status", flat=True).get()
    return JsonResponse({"order_id": order, "status": status})


@transaction.atomic
def confirm(request, order):
    nonce = request.headers["x-nonce"]
    named(order, nonce + "-a").select_for_update().values_list("status", flat=True).get()
    Order.objects.filter(id=order).update(status="confirmed", nonce=nonce + "-b")
    return JsonResponse({"order_id": order})


urlpatterns = [
    path("orders", make),
    path("orders/<int:order>", look),
    path("orders/<int:order>/confirm", confirm),
]

from django.core.wsgi import get_wsgi_application  # noqa: E402 (only a project that is configured has one)

app = get_wsgi_application()
