-- What the status of each order was, one after the other: no service reads it, and no client sees that it is written.
CREATE TABLE status_history (id bigserial PRIMARY KEY, record text NOT NULL, order_id int NOT NULL, status text NOT NULL);
CREATE FUNCTION keep_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.status <> OLD.status THEN
        INSERT INTO status_history (record, order_id, status)
        VALUES (TG_TABLE_NAME, coalesce(to_jsonb(NEW) ->> 'order_id', to_jsonb(NEW) ->> 'id')::int, NEW.status);
    END IF;
    RETURN NULL;
END $$;
