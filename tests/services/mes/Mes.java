// The MES: confirmed orders from RabbitMQ, operators and partners over HTTP in; prices, production and status messages out.
//
// Thread pools: com.sun.net.httpserver with eight threads, RabbitMQ's consumer threads, a pool of pgjdbc connections.

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.sql.SQLException;
import java.util.HexFormat;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.SSLContext;

final class Mes {
    private static final Pattern OPERATOR = Pattern.compile("/operator/orders/(\\d+)/(start|finish|model)");
    /** Consumers that work at the same time, each on a channel of its own. */
    private static final int CONSUMERS = 2;

    private final Database database;
    private final Connection broker;
    private final Channel status;
    private final String shop = System.getenv("SHOP_URL");
    private final String crm = System.getenv("CRM_URL");
    private final String store = System.getenv("STORE_URL");

    private record Answer(int status, String body) {}

    private Mes() throws Exception {
        int size = Integer.parseInt(System.getenv().getOrDefault("POOL_SIZE", "4"));
        database = new Database(System.getenv("DATABASE_URL"), size);
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv("AMQP_URL"));
        broker = factory.newConnection();
        status = broker.createChannel();
        status.exchangeDeclare("status", "topic", true);
        status.confirmSelect();
    }

    public static void main(String[] args) throws Exception {
        Mes mes = new Mes();
        for (int i = 0; i < CONSUMERS; i++) {
            mes.consume();
        }
        InetSocketAddress address = new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT")));
        HttpServer server;
        if (System.getenv("TLS_CERTIFICATE") == null) {
            server = HttpServer.create(address, 128);
        } else {
            HttpsServer secure = HttpsServer.create(address, 128);
            secure.setHttpsConfigurator(new HttpsConfigurator(SSLContext.getDefault()));
            server = secure;
        }
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", mes::serve);
        server.start();
        System.err.println("mes: ready");
    }

    // ---- orders from RabbitMQ

    private void consume() throws IOException {
        Channel channel = broker.createChannel();
        channel.exchangeDeclare("orders.dead", "fanout", true);
        channel.exchangeDeclare("orders", "direct", true);
        channel.queueDeclare("mes.orders", true, false, false, Map.of("x-dead-letter-exchange", "orders.dead"));
        channel.queueBind("mes.orders", "orders", "order.confirmed");
        channel.basicQos(4);
        channel.basicConsume("mes.orders", false, new DefaultConsumer(channel) {
            @Override
            public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body) throws IOException {
                receive(channel, envelope, body);
            }
        });
    }

    private void receive(Channel channel, Envelope envelope, byte[] body) throws IOException {
        Map<String, Object> order = Json.read(new String(body, StandardCharsets.UTF_8));
        Truth.Work work = new Truth.Work((Long) order.get("order_id"));
        Map<String, Object> entry = work.begin("deliver", "exchange", envelope.getExchange(), "routing_key", envelope.getRoutingKey(),
                "queue", "mes.orders", "body", digest(body));
        boolean taken;
        try {
            taken = take(work, order, null);
        } catch (SQLException error) {
            System.err.println("mes: order " + work.order + ": " + error.getMessage());
            taken = false;
        }
        if (taken) {
            publish(work, "priced");
            channel.basicAck(envelope.getDeliveryTag(), false);
        } else {
            channel.basicReject(envelope.getDeliveryTag(), false);
        }
        work.end(entry, "settled", taken ? "ack" : "reject");
        work.write();
    }

    /** Stores and prices an order; false when there is no price for its material. */
    private boolean take(Truth.Work work, Map<String, Object> order, Long partner) throws SQLException {
        return database.transaction(work, session -> {
            Long id = (Long) order.get("order_id");
            Long quantity = (Long) order.get("quantity");
            Object[] price = session.first("SELECT unit_price FROM prices WHERE material = ? LIMIT 10", order.get("material"));
            if (price == null) {
                session.update("INSERT INTO mes_orders (order_id, partner_id, material, quantity, status) VALUES (?, ?, ?, ?, 'rejected')",
                        id, partner, order.get("material"), quantity);
                return false;
            }
            int unit = (Integer) price[0];
            session.update("INSERT INTO mes_orders (order_id, partner_id, material, quantity, model_key, status) VALUES (?, ?, ?, ?, ?, 'new')",
                    id, partner, order.get("material"), quantity, order.get("model_key"));
            session.update("INSERT INTO calculations (order_id, quantity, unit_price, total) VALUES (?, ?, ?, ?)", id, quantity, unit, unit * quantity);
            session.update("UPDATE mes_orders SET status = 'priced' WHERE order_id = ?", id);
            return true;
        });
    }

    /** Tells the others where the order is; returns when the broker has it. */
    private void publish(Truth.Work work, String state) throws IOException {
        byte[] body = Json.of("order_id", work.order, "status", state).getBytes(StandardCharsets.UTF_8);
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().contentType("application/json").deliveryMode(2).build();
        String key = "order." + state;
        // A channel belongs to one thread at a time.
        synchronized (status) {
            Map<String, Object> entry = work.begin("publish", "exchange", "status", "routing_key", key, "body", digest(body));
            status.basicPublish("status", key, properties, body);
            try {
                status.waitForConfirmsOrDie(30_000);
            } catch (Exception error) {
                throw new IOException(error);
            }
            work.end(entry);
        }
    }

    private static String digest(byte[] body) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body));
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error);
        }
    }

    // ---- operators and partners over HTTP

    private void serve(HttpExchange exchange) throws IOException {
        String path = exchange.getRequestURI().getPath();
        Truth.Work work = new Truth.Work(null);
        Map<String, Object> entry = work.begin("http.server", "method", exchange.getRequestMethod(), "path", path);
        Answer answer;
        try {
            answer = route(work, exchange, path);
        } catch (SQLException error) {
            answer = new Answer(409, Json.of("order_id", work.order, "error", error.getSQLState()));
        }
        byte[] body = answer.body().getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("content-type", "application/json");
        exchange.sendResponseHeaders(answer.status(), body.length);
        try (OutputStream out = exchange.getResponseBody()) {
            out.write(body);
        }
        work.end(entry, "status", answer.status());
        work.write();
    }

    private Answer route(Truth.Work work, HttpExchange exchange, String path) throws IOException, SQLException {
        String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
        Matcher operator = OPERATOR.matcher(path);
        if (operator.matches()) {
            work.order = Long.valueOf(operator.group(1));
            return switch (operator.group(2)) {
                case "start" -> start(work, header(exchange, "x-operator-id"));
                case "finish" -> finish(work, header(exchange, "x-operator-id"));
                default -> model(work);
            };
        }
        if (path.equals("/b2b/orders") && exchange.getRequestMethod().equals("POST")) {
            return partnerOrder(work, Json.read(body), header(exchange, "x-partner-id"));
        }
        if (path.equals("/prices")) {
            Object[] row = database.use(work, session -> session.first("SELECT count(*), min(unit_price) FROM prices LIMIT 10"));
            return new Answer(200, Json.of("materials", row[0], "from", row[1]));
        }
        return new Answer(404, Json.of("error", "no such page"));
    }

    private Answer start(Truth.Work work, Long operator) throws IOException, SQLException {
        try {
            database.transaction(work, session -> {
                Object[] order = session.first("SELECT material, quantity FROM mes_orders WHERE order_id = ? FOR UPDATE", work.order);
                Object[] price = session.first("SELECT hours FROM prices WHERE material = ?", order[0]);
                java.math.BigDecimal hours = ((java.math.BigDecimal) price[0]).multiply(java.math.BigDecimal.valueOf((Integer) order[1]));
                session.update("INSERT INTO production (order_id, operator_id, hours) VALUES (?, ?, ?)", work.order, operator, hours);
                return session.update("UPDATE mes_orders SET status = 'started' WHERE order_id = ?", work.order);
            });
        } catch (SQLException error) {
            publish(work, "failed");
            throw error;
        }
        publish(work, "started");
        return new Answer(200, Json.of("order_id", work.order, "status", "started", "operator_id", operator));
    }

    private Answer finish(Truth.Work work, Long operator) throws IOException, SQLException {
        database.transaction(work, session -> {
            session.update("UPDATE production SET finished = true WHERE order_id = ? AND operator_id = ?", work.order, operator);
            return session.update("UPDATE mes_orders SET status = 'finished' WHERE order_id = ?", work.order);
        });
        publish(work, "finished");
        return new Answer(200, Json.of("order_id", work.order, "status", "finished", "operator_id", operator));
    }

    /** The operator looks at the model: it comes from the object store. */
    private Answer model(Truth.Work work) throws IOException, SQLException {
        Object[] order = database.use(work, session -> session.first("SELECT model_key FROM mes_orders WHERE order_id = ?", work.order));
        if (order == null || order[0] == null) {
            return new Answer(404, Json.of("order_id", work.order, "error", "no model"));
        }
        Reply reply = call(work, "GET", store, (String) order[0], null);
        return new Answer(200, Json.of("order_id", work.order, "size", reply.body().length));
    }

    private Answer partnerOrder(Truth.Work work, Map<String, Object> wish, Long partner) throws IOException, SQLException {
        String order = Json.of("user_id", partner, "material", wish.get("material"), "quantity", wish.get("quantity"), "source", "b2b");
        Reply created = call(work, "POST", shop, "/orders", order);
        if (created.status() != 201) {
            return new Answer(502, Json.of("error", "the shop answered " + created.status()));
        }
        Map<String, Object> answer = Json.read(new String(created.body(), StandardCharsets.UTF_8));
        work.order = (Long) answer.get("order_id");
        wish.put("order_id", work.order);
        boolean taken = take(work, wish, partner);
        if (!taken) {
            publish(work, "failed");
            return new Answer(422, Json.of("order_id", work.order, "status", "rejected"));
        }
        String informed = Json.of("order_id", work.order, "user_id", partner, "material", wish.get("material"), "quantity", wish.get("quantity"), "status", "confirmed");
        call(work, "POST", crm, "/api/orders", informed);
        publish(work, "priced");
        return new Answer(201, Json.of("order_id", work.order, "status", "priced", "partner_id", partner));
    }

    private static Long header(HttpExchange exchange, String name) {
        String value = exchange.getRequestHeaders().getFirst(name);
        return value == null ? null : Long.valueOf(value);
    }

    private record Reply(int status, byte[] body) {}

    private static Reply call(Truth.Work work, String method, String base, String path, String body) throws IOException {
        Map<String, Object> entry = work.begin("http.client", "method", method, "path", path);
        HttpURLConnection connection = (HttpURLConnection) new URL(base + path).openConnection();
        connection.setRequestMethod(method);
        if (body != null) {
            connection.setDoOutput(true);
            connection.setRequestProperty("content-type", "application/json");
            try (OutputStream out = connection.getOutputStream()) {
                out.write(body.getBytes(StandardCharsets.UTF_8));
            }
        }
        int status = connection.getResponseCode();
        byte[] answer;
        try (InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            answer = in == null ? new byte[0] : in.readAllBytes();
        }
        work.end(entry, "status", status);
        return new Reply(status, answer);
    }
}
