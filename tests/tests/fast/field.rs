//! What the field sends: captures and recordings of it through the whole agent, as `spoor replay` does it, against what is
//! right for each.
//!
//! The cases are in `tests/fixtures/field`, whose README says what each holds; `spoor_tests::expectation` has the form of
//! their expectations. A test has the name of its case.
//!
//! A case with a text behind it is known to fail: the text says what it shows today. Its test fails as soon as the case holds
//! (the text is to be removed then), so that what is known to fail can only become less.

use std::collections::BTreeSet;
use std::path::PathBuf;

use spoor::config;
use spoor::export::Host;
use spoor::export::file::JsonLines;
use spoor::{run, source};
use spoor_core::record::Record;
use spoor_core::time::BootTime;
use spoor_tests::expectation::Case;
use spoor_tests::forest::{self, Span};
use spoor_tests::recorded::fixtures;

/// A test for each case, and the names of all.
macro_rules! cases {
    ($($case:ident $(: $wrong:literal)?,)+) => {
        $(
            #[test]
            fn $case() {
                let known: &[&str] = &[$($wrong)?];
                check(stringify!($case), known.first().copied());
            }
        )+

        const CASES: &[&str] = &[$(stringify!($case)),+];
    };
}

cases! {
    amqp_older_confirms,
    backlog_equal,
    backlog_equal_one_conn,
    backlog_one,
    broker_timestamp,
    broker_timestamp_no_headers,
    celery_prefork,
    connection_blocked,
    date_path,
    delayed_equal,
    dnat_twice,
    dramatiq_begin_left_out,
    error_body_id,
    fastcgi_uwsgi,
    form_field_after_file,
    hash_in_names,
    json_as_html,
    jsonrpc_id,
    location_created,
    long_in_list,
    midstream_http,
    name_cardinality,
    names_cyrillic,
    nest_rpc_older_auto_ack,
    nginx_gunicorn_unix_socket,
    nginx_same_order_in_succession,
    outbox_json,
    paths,
    pg_win1251,
    pgbouncer,
    phone_by_name,
    php_fpm_fastcgi,
    php_fpm_nginx,
    prepared_before_agent,
    proxy_v1,
    proxy_v2,
    proxy_v2local,
    publish_missing_exchange,
    scgi_nginx,
    secrets_path,
    secrets_query,
    soap,
    spring_gzip_colon,
    sql_prepare,
    status_cyrillic,
    thread_beats_key,
    tx_rollback,
    unnamed_reexecuted,
    unsampled_traceparent,
    uwsgi_nginx,
    vxlan,
    x_forwarded,
}

/// Replays a case and compares. Where it is `known` to fail, it has to fail.
fn check(name: &str, known: Option<&str>) {
    let text = std::fs::read_to_string(file(name, "json")).expect("a case has its expectations");
    let case = Case::parse(&text).unwrap_or_else(|error| panic!("{name}.json: {error}"));
    let spans = replay(name);
    let wrong = case.check(&spans);
    let list: String = wrong.iter().map(|what| format!("  {what}\n")).collect();
    let shown = forest::listing(&spans);
    match known {
        None => assert!(wrong.is_empty(), "{name}: {}\n{list}{shown}", case.what),
        Some(known) => {
            assert!(!wrong.is_empty(), "{name} holds now: remove `{known}` behind it in this file");
            println!("{name} is known to fail ({known}):\n{list}{shown}");
        }
    }
}

fn file(name: &str, extension: &str) -> PathBuf {
    fixtures().join("field").join(format!("{name}.{extension}"))
}

/// The spans of a case's recording or capture under its configuration, as they are exported.
fn replay(name: &str) -> Vec<Span> {
    let settings = Some(file(name, "yaml")).filter(|path| path.is_file());
    let config = config::load(settings.as_deref(), &[], &[]).expect("a case's configuration is right").config;
    let recording = Some(file(name, "spoor")).filter(|path| path.is_file());
    let input = recording.unwrap_or_else(|| file(name, "pcap"));
    let mut source = source::open(&input, &config.services).expect("a case has a recording or a capture");
    let mut pipeline = run::pipeline(&config, [7; 16]).expect("the configuration's rules compile");
    let mut lines = JsonLines::new(Vec::new(), Host::local("rules"));
    let mut now = BootTime::ZERO;
    loop {
        match source.next() {
            Ok(Some(record)) => {
                now = now.max(Record::at(&record));
                pipeline.handle_record(record);
                while pipeline.poll_verdict().is_some() {
                    // A file holds what it holds.
                }
            }
            Ok(None) => break,
            Err(error) if error.is_warning() => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
    pipeline.finish(now);
    for span in std::iter::from_fn(|| pipeline.poll_span()).filter(|span| span.sampled) {
        lines.push(span).expect("memory takes lines");
    }
    let lines = lines.finish().expect("memory takes lines");
    forest::parse(&String::from_utf8(lines).expect("JSON is text")).expect("spans")
}

#[test]
fn every_case_of_the_folder_is_tested() {
    let entries = std::fs::read_dir(fixtures().join("field")).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("an entry").path());
    let names = names.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let there: BTreeSet<String> =
        names.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
    let tested: BTreeSet<String> = CASES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(there, tested, "the folder's expectations against the cases of this file");
}
