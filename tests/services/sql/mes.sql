-- The MES database.
CREATE TABLE prices (material text PRIMARY KEY, unit_price int NOT NULL, hours numeric NOT NULL);
-- The shop sells one material that the MES cannot price: such an order is rejected.
INSERT INTO prices VALUES ('PLA', 3, 0.1), ('PETG', 4, 0.2), ('STEEL', 40, 0.5), ('TITANIUM', 300, 50);
CREATE TABLE mes_orders (
    order_id int PRIMARY KEY,
    partner_id int,
    material text NOT NULL,
    quantity int NOT NULL,
    model_key text,
    status text NOT NULL
);
CREATE TABLE calculations (order_id int PRIMARY KEY REFERENCES mes_orders, quantity int NOT NULL, unit_price int NOT NULL, total int NOT NULL);
-- A machine is booked for forty hours at most: whoever orders more titanium than that fails here.
CREATE TABLE production (
    order_id int PRIMARY KEY REFERENCES mes_orders,
    operator_id int NOT NULL,
    hours numeric NOT NULL CONSTRAINT production_hours_check CHECK (hours <= 40),
    finished boolean NOT NULL DEFAULT false
);

\ir status_history.sql
CREATE TRIGGER keep_status AFTER INSERT OR UPDATE ON mes_orders FOR EACH ROW EXECUTE FUNCTION keep_status();
