"""Orders with Flask and psycopg's pool, behind any of gunicorn's workers."""

import orders

app = orders.application()
