# Orders with Plack behind Starman, and DBD::Pg.
use strict;
use warnings;
use DBI;
use JSON::PP;

my $database;
my $look = "SELECT status FROM orders WHERE id = ? AND (nonce = ? OR customer IS NOT NULL)";

sub answer {
    return [ 200, [ "Content-Type" => "application/json" ], [ encode_json(shift) ] ];
}

sub {
    my $env = shift;
    # Each of Starman's processes has a connection of its own.
    $database ||= DBI->connect($ENV{DBI_URL}, "spoor", "", { RaiseError => 1, AutoCommit => 1 });
    my $nonce = $env->{HTTP_X_NONCE};
    my (undef, undef, $order, $action) = split m{/}, $env->{PATH_INFO};
    if (!defined $order) {
        $env->{"psgi.input"}->read(my $body, $env->{CONTENT_LENGTH});
        my $new = decode_json($body);
        $database->do("INSERT INTO orders (id, customer, nonce) VALUES (?, ?, ?)",
            undef, $new->{order_id}, $new->{customer}, "$nonce-a");
        return answer({ order_id => $new->{order_id} });
    }
    if (defined $action) {
        $database->begin_work;
        $database->selectrow_array("$look FOR UPDATE", undef, $order, "$nonce-a");
        $database->do("UPDATE orders SET status = 'confirmed', nonce = ? WHERE id = ?", undef, "$nonce-b", $order);
        $database->commit;
        return answer({ order_id => $order + 0 });
    }
    my ($status) = $database->selectrow_array($look, undef, $order, "$nonce-a");
    return answer({ order_id => $order + 0, status => $status });
};
