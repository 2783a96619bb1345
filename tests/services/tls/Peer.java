// A server, or a client over one TLS connection, of the JDK alone:
//   java Peer.java serve PORT KEYSTORE VERSION
//   java Peer.java call URL TRUSTSTORE COUNT GO LOG

import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import java.io.FileInputStream;
import java.io.PrintWriter;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.concurrent.Executors;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;

public final class Peer {
    private static final char[] PASSWORD = "changeit".toCharArray();

    private static SSLContext context(String store) throws Exception {
        KeyStore keys = KeyStore.getInstance("PKCS12");
        try (FileInputStream in = new FileInputStream(store)) {
            keys.load(in, PASSWORD);
        }
        KeyManagerFactory own = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        own.init(keys, PASSWORD);
        TrustManagerFactory trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trusted.init(keys);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(own.getKeyManagers(), trusted.getTrustManagers(), null);
        return context;
    }

    private static void serve(int port, String store, String version) throws Exception {
        HttpsServer server = HttpsServer.create(new InetSocketAddress("127.0.0.1", port), 64);
        server.setHttpsConfigurator(new HttpsConfigurator(context(store)) {
            @Override
            public void configure(HttpsParameters parameters) {
                SSLParameters ssl = getSSLContext().getDefaultSSLParameters();
                ssl.setProtocols(new String[] {"TLSv" + version});
                parameters.setSSLParameters(ssl);
            }
        });
        server.createContext("/", exchange -> {
            byte[] body = ("{\"path\": \"" + exchange.getRequestURI().getPath() + "\"}").getBytes("UTF-8");
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
        System.out.println("listening");
    }

    private static int ask(HttpClient client, URI uri) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(uri).build();
        return client.send(request, HttpResponse.BodyHandlers.ofByteArray()).statusCode();
    }

    private static void call(String url, String store, int count, String go, String log) throws Exception {
        HttpClient client =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).sslContext(context(store)).build();
        URI base = URI.create(url);
        if (!go.equals("-")) {
            ask(client, base.resolve("/before"));
            System.out.println("connected");
            while (!Files.exists(Path.of(go))) {
                Thread.sleep(20);
            }
        }
        try (PrintWriter out = new PrintWriter(log, "UTF-8")) {
            for (int number = 0; number < count; number++) {
                String path = base.getPath() + "/" + number;
                out.println("GET " + path + " " + ask(client, base.resolve(path)));
                Thread.sleep(10);
            }
            // Its secret is looked for while it is open.
            Thread.sleep(go.equals("-") ? 0 : 1000);
            out.println("done");
        }
        System.exit(0);
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) {
            serve(Integer.parseInt(args[1]), args[2], args[3]);
        } else {
            call(args[1], args[2], Integer.parseInt(args[3]), args[4], args[5]);
        }
    }
}
