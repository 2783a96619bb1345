// A small pool of PostgreSQL connections over pgjdbc, which prepares a statement on the server after some executions.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Map;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;

final class Database {
    private final BlockingQueue<Connection> free;

    /** What is done with a connection that nobody else uses meanwhile. */
    interface Use<T> {
        T with(Session session) throws SQLException;
    }

    Database(String url, int size) throws SQLException {
        free = new ArrayBlockingQueue<>(size);
        for (int i = 0; i < size; i++) {
            free.add(DriverManager.getConnection(url));
        }
    }

    /** One statement on its own, or several without a transaction. */
    <T> T use(Truth.Work work, Use<T> use) throws SQLException {
        Connection connection = take();
        try {
            connection.setAutoCommit(true);
            return use.with(new Session(work, connection));
        } finally {
            free.add(connection);
        }
    }

    /** Statements between BEGIN and COMMIT; ROLLBACK when one fails. */
    <T> T transaction(Truth.Work work, Use<T> use) throws SQLException {
        Connection connection = take();
        try {
            connection.setAutoCommit(false);
            Session session = new Session(work, connection);
            T result;
            try {
                result = use.with(session);
            } catch (SQLException | RuntimeException error) {
                session.finish("ROLLBACK");
                throw error;
            }
            session.finish("COMMIT");
            return result;
        } finally {
            free.add(connection);
        }
    }

    private Connection take() {
        try {
            return free.take();
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    /** A connection in use, for one work. */
    static final class Session {
        private final Truth.Work work;
        private final Connection connection;
        private boolean begun;

        Session(Truth.Work work, Connection connection) {
            this.work = work;
            this.connection = connection;
        }

        /** Rows changed. */
        int update(String sql, Object... args) throws SQLException {
            try (PreparedStatement statement = prepare(sql, args)) {
                return logged(sql, statement::executeUpdate);
            }
        }

        /** The first row's columns as numbers and texts; null when there is none. */
        Object[] first(String sql, Object... args) throws SQLException {
            try (PreparedStatement statement = prepare(sql, args)) {
                return logged(sql, () -> {
                    try (ResultSet rows = statement.executeQuery()) {
                        if (!rows.next()) {
                            return null;
                        }
                        Object[] row = new Object[rows.getMetaData().getColumnCount()];
                        for (int i = 0; i < row.length; i++) {
                            row[i] = rows.getObject(i + 1);
                        }
                        return row;
                    }
                });
            }
        }

        private PreparedStatement prepare(String sql, Object[] args) throws SQLException {
            PreparedStatement statement = connection.prepareStatement(sql);
            for (int i = 0; i < args.length; i++) {
                if (args[i] instanceof Long number) {
                    statement.setInt(i + 1, Math.toIntExact(number));
                } else {
                    statement.setObject(i + 1, args[i]);
                }
            }
            return statement;
        }

        private interface Action<T> {
            T run() throws SQLException;
        }

        /** The driver sends BEGIN together with the first statement of a transaction. */
        private <T> T logged(String sql, Action<T> action) throws SQLException {
            Map<String, Object> begin = null;
            if (!connection.getAutoCommit() && !begun) {
                begun = true;
                begin = work.begin("sql", "text", "BEGIN", "error", null);
            }
            Map<String, Object> entry = work.begin("sql", "text", sql, "error", null);
            String error = null;
            try {
                return action.run();
            } catch (SQLException failure) {
                error = failure.getSQLState();
                throw failure;
            } finally {
                if (begin != null) {
                    work.end(begin);
                }
                work.end(entry, "error", error);
            }
        }

        private void finish(String text) throws SQLException {
            if (!begun) {
                return;
            }
            Map<String, Object> entry = work.begin("sql", "text", text, "error", null);
            if (text.equals("COMMIT")) {
                connection.commit();
            } else {
                connection.rollback();
            }
            work.end(entry);
        }
    }
}
