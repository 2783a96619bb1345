-- The shop's database, used by the shop and by the CRM.
CREATE TABLE stock (material text PRIMARY KEY, available int NOT NULL);
INSERT INTO stock VALUES ('PLA', 900000), ('PETG', 500000), ('STEEL', 80000), ('TITANIUM', 9000), ('MOONDUST', 20);
CREATE TABLE orders (
    id serial PRIMARY KEY,
    user_id int NOT NULL,
    material text NOT NULL REFERENCES stock,
    quantity int NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    source text NOT NULL,
    status text NOT NULL,
    model_key text,
    model_name text,
    changed timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON orders (user_id);
CREATE TABLE order_events (id bigserial PRIMARY KEY, order_id int NOT NULL REFERENCES orders, status text NOT NULL, note text);
CREATE TABLE crm_orders (
    order_id int PRIMARY KEY,
    user_id int NOT NULL,
    material text NOT NULL,
    quantity int NOT NULL,
    model_key text,
    seller_id int,
    status text NOT NULL
);
CREATE TABLE crm_events (id bigserial PRIMARY KEY, order_id int NOT NULL, seller_id int, status text NOT NULL);

\ir status_history.sql
CREATE TRIGGER keep_status AFTER INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION keep_status();
CREATE TRIGGER keep_status AFTER INSERT OR UPDATE ON crm_orders FOR EACH ROW EXECUTE FUNCTION keep_status();
