// Steps of a plan in, calls over HTTP, SQL and AMQP out: a pool of threads, or one that hands its work to another.
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.function.Consumer;

/**
 * Requests of com.sun.net.httpserver, read by one pool of threads and worked on by it (MODE=pool) or handed to another
 * (MODE=handoff); pgjdbc, HttpURLConnection with its kept connections, RabbitMQ's client.
 */
public final class Service {
    private static final int POOL = Integer.parseInt(System.getenv().getOrDefault("POOL", "20"));
    private static final String BACKEND = "http://127.0.0.1:" + System.getenv("BACKEND_PORT");
    private static final ExecutorService BRANCHES = Executors.newFixedThreadPool(32);
    private static final LinkedBlockingDeque<java.sql.Connection> SQL = new LinkedBlockingDeque<>();
    private static BlockingQueue<Channel> channels;
    private static FileOutputStream log;

    private interface Step {
        void run(String cause) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        System.setProperty("http.maxConnections", Integer.toString(POOL));
        log = new FileOutputStream(System.getenv("LOG"), true);
        for (int i = 0; i < POOL; i++) {
            SQL.add(DriverManager.getConnection(System.getenv("JDBC_URL")));
        }
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv("AMQP_URL"));
        if ("worker".equals(System.getenv("ROLE"))) {
            consume(factory);
            System.out.println("ready");
            return;
        }
        Connection connection = factory.newConnection();
        channels = new ArrayBlockingQueue<>(8);
        for (int i = 0; i < 8; i++) {
            channels.add(connection.createChannel());
        }
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 512);
        server.setExecutor(Executors.newFixedThreadPool(64));
        boolean handsOff = "handoff".equals(System.getenv("MODE"));
        ExecutorService workers = Executors.newFixedThreadPool(64);
        server.createContext("/", exchange -> {
            exchange.getRequestBody().readAllBytes();
            if (handsOff) {
                workers.submit(() -> serve(exchange));
            } else {
                serve(exchange);
            }
        });
        server.start();
    }

    private static void serve(HttpExchange exchange) {
        String path = exchange.getRequestURI().getPath();
        String nonce = path.substring(path.lastIndexOf('/') + 1);
        try {
            carryOut(nonce, text -> answer(exchange, text));
            done(nonce, "-");
        } catch (Exception error) {
            failed(nonce, error);
            exchange.close();
        }
    }

    private static void answer(HttpExchange exchange, String text) {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("content-type", "application/json");
        try {
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        } catch (IOException error) {
            throw new java.io.UncheckedIOException(error);
        }
    }

    private static void consume(ConnectionFactory factory) throws Exception {
        Connection connection = factory.newConnection(Executors.newFixedThreadPool(8));
        for (int i = 0; i < 4; i++) {
            Channel channel = connection.createChannel();
            channel.exchangeDeclare("accuracy", "topic", false);
            channel.queueDeclare("java", false, false, true, null);
            channel.queueBind("java", "accuracy", "work.#");
            channel.basicQos(4);
            channel.basicConsume("java", false, new DefaultConsumer(channel) {
                @Override
                public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body)
                        throws IOException {
                    String key = envelope.getRoutingKey();
                    String nonce = key.substring(key.lastIndexOf('.') + 1);
                    try {
                        carryOut(nonce, null);
                        done(nonce, nonce);
                    } catch (Exception error) {
                        failed(nonce, error);
                    }
                    channel.basicAck(envelope.getDeliveryTag(), false);
                }
            });
        }
    }

    /** All steps, in this thread; those done together in threads of a pool. */
    private static void carryOut(String cause, Consumer<String> answer) throws Exception {
        List<String> lines = Files.readAllLines(Path.of(System.getenv("PLANS"), cause));
        java.sql.Connection transaction = null;
        for (Iterator<String> each = lines.iterator(); each.hasNext();) {
            String[] line = each.next().split(" ", 2);
            String rest = line.length > 1 ? line[1] : "";
            switch (line[0]) {
                case "think" -> Thread.sleep(Long.parseLong(rest));
                case "answer" -> {
                    if (answer != null) {
                        answer.accept(rest);
                    }
                }
                case "begin" -> {
                    transaction = SQL.takeFirst();
                    transaction.setAutoCommit(false);
                }
                case "commit" -> {
                    transaction.commit();
                    transaction.setAutoCommit(true);
                    SQL.addFirst(transaction);
                    transaction = null;
                }
                case "together" -> {
                    List<Future<?>> branches = new ArrayList<>();
                    for (int i = Integer.parseInt(rest); i > 0; i--) {
                        Step step = step(each.next().split(" ", 2), null);
                        branches.add(BRANCHES.submit(() -> {
                            step.run(cause);
                            return null;
                        }));
                    }
                    for (Future<?> branch : branches) {
                        branch.get();
                    }
                }
                default -> step(line, transaction).run(cause);
            }
        }
    }

    private static Step step(String[] line, java.sql.Connection transaction) {
        return switch (line[0]) {
            case "http" -> cause -> {
                String[] part = line[1].split(" ", 4);
                call(part[1], part[2], part.length > 3 ? part[3] : null);
                done(part[0], cause);
            };
            case "sql" -> cause -> {
                String[] part = line[1].split(" ", 3);
                java.sql.Connection connection = transaction != null ? transaction : SQL.takeFirst();
                try {
                    query(connection, part[1].split(","), part[2]);
                } finally {
                    if (transaction == null) {
                        SQL.addFirst(connection);
                    }
                }
                done(part[0], cause);
            };
            default -> cause -> {
                String[] part = line[1].split(" ", 2);
                Channel channel = channels.take();
                AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().contentType("application/json").build();
                channel.basicPublish("accuracy", "work." + part[0], properties, part[1].getBytes(StandardCharsets.UTF_8));
                channels.add(channel);
                done(part[0], cause);
            };
        };
    }

    private static void call(String method, String target, String body) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) URI.create(BACKEND + target).toURL().openConnection();
        connection.setRequestMethod(method);
        if (body != null) {
            connection.setDoOutput(true);
            connection.setRequestProperty("content-type", "application/json");
            try (OutputStream out = connection.getOutputStream()) {
                out.write(body.getBytes(StandardCharsets.UTF_8));
            }
        }
        try (InputStream in = connection.getInputStream()) {
            in.readAllBytes();
        }
    }

    private static void query(java.sql.Connection connection, String[] values, String text) throws Exception {
        // The parameters of these statements are numbered in the order they stand in.
        try (PreparedStatement statement = connection.prepareStatement(text.replaceAll("\\$\\d", "?"))) {
            for (int i = 0; i < values.length; i++) {
                statement.setInt(i + 1, Integer.parseInt(values[i]));
            }
            statement.execute();
        }
    }

    private static synchronized void write(String line) {
        try {
            log.write(line.getBytes(StandardCharsets.UTF_8));
        } catch (IOException error) {
            throw new java.io.UncheckedIOException(error);
        }
    }

    private static void done(String nonce, String cause) {
        write(nonce + " " + cause + "\n");
    }

    private static void failed(String nonce, Exception error) {
        write("! " + nonce + " " + String.valueOf(error).replace('\n', ' ') + "\n");
    }
}
