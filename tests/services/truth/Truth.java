// What a Java service did, one JSON line per operation: the ground truth that spans are counted against.
//
// This is file I/O of the service itself, not tracing: nothing of it travels to another service.

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

final class Truth {
    private static final Path LOG = Path.of(System.getenv("TRUTH_LOG"));
    private static final String SERVICE = System.getenv("TRUTH_SERVICE");
    private static final long PID = ProcessHandle.current().pid();

    private Truth() {}

    /** One request served or message handled, with everything done for it. {@code order} may become known late. */
    static final class Work {
        Long order;
        private final List<Map<String, Object>> entries = new ArrayList<>();
        private String cause;

        Work(Long order) {
            this.order = order;
        }

        /** Starts an operation; the first one is the cause of all others. Facts are names and values in turn. */
        Map<String, Object> begin(String kind, Object... facts) {
            Map<String, Object> entry = new LinkedHashMap<>();
            String nonce = UUID.randomUUID().toString();
            entry.put("nonce", nonce);
            entry.put("service", SERVICE);
            entry.put("pid", PID);
            entry.put("kind", kind);
            entry.put("cause", cause);
            entry.put("start_ns", now());
            put(entry, facts);
            if (cause == null) {
                cause = nonce;
            }
            entries.add(entry);
            return entry;
        }

        void end(Map<String, Object> entry, Object... facts) {
            put(entry, facts);
            entry.put("end_ns", now());
        }

        /** Puts all operations on file, with the order they turned out to belong to. */
        void write() {
            StringBuilder lines = new StringBuilder();
            for (Map<String, Object> entry : entries) {
                entry.put("order", order);
                lines.append(Json.write(entry)).append('\n');
            }
            try {
                Files.write(LOG, lines.toString().getBytes(StandardCharsets.UTF_8), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            } catch (IOException error) {
                throw new IllegalStateException("cannot write the truth log", error);
            }
        }

        private static void put(Map<String, Object> entry, Object[] facts) {
            for (int i = 0; i + 1 < facts.length; i += 2) {
                entry.put((String) facts[i], facts[i + 1]);
            }
        }

        private static long now() {
            Instant now = Instant.now();
            return now.getEpochSecond() * 1_000_000_000L + now.getNano();
        }
    }
}
