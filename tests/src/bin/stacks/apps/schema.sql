-- What every application of the stacks keeps.
CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, status text NOT NULL DEFAULT 'new', nonce text);
CREATE TABLE events (order_id bigint NOT NULL, what text NOT NULL, nonce text);
