use super::*;

fn facts(exe: &str, command: &str) -> Facts {
    Facts {
        exe: exe.to_owned(),
        comm: "comm".to_owned(),
        command: command.split(' ').map(str::to_owned).collect(),
        directory: "/srv/shop".to_owned(),
        ..Facts::default()
    }
}

#[track_caller]
fn check(exe: &str, command: &str, expected: &str) {
    assert_eq!(service(&facts(exe, command), &Services::default()).service, expected, "{command}");
}

#[test]
fn interpreters_are_named_by_what_they_run() {
    check("/usr/bin/python3.11", "python3 shop.py", "shop");
    check("/usr/bin/python3.11", "python3 -u -X dev /opt/crm/crm.py --port 80", "crm");
    check("/usr/bin/python3.11", "python3 -m mes.server", "server");
    check("/usr/bin/python3.11", "python3 -m mes", "mes");
    check("/usr/bin/python3.11", "python3 app.py", "shop");
    check("/usr/bin/python3.11", "python3 /srv/crm/src/main.py", "crm");
    check(
        "/usr/bin/python3.11",
        "/usr/bin/python3 /usr/local/bin/gunicorn -w 4 -b 0.0.0.0:80 shop.wsgi:application",
        "shop",
    );
    check("/usr/bin/python3.11", "python3 -m uvicorn --port 8000 mes.main:app", "mes");
    check("/usr/bin/python3.11", "python3 -c code", "python");
    check("/usr/bin/node", "node crm.js", "crm");
    check("/usr/bin/node", "node --require ./x.js --max-old-space-size=100 /srv/crm/dist/server.js", "crm");
    check("/usr/bin/node", "node -e code", "node");
    check("/usr/lib/jvm/bin/java", "java -Xmx1g -jar /opt/mes-1.2.3-SNAPSHOT.jar --x", "mes");
    check("/usr/lib/jvm/bin/java", "java -cp a.jar:b.jar -Dx=y com.acme.mes.MesServer arg", "MesServer");
    check("/usr/lib/jvm/bin/java", "java Mes.java", "Mes");
    check("/usr/lib/jvm/bin/java", "java -m mes/com.acme.Main", "Main");
    check("/usr/bin/dotnet", "dotnet /app/Crm.Api.dll", "Crm.Api");
    check("/usr/bin/ruby3.1", "ruby billing.rb", "billing");
    check("/usr/bin/bash", "bash /opt/poll.sh", "poll");
    check("/usr/bin/bash", "-bash", "bash");
}

#[test]
fn options_of_a_script_are_not_those_of_its_interpreter() {
    check("/usr/bin/node", "node srv.js -p 3000", "srv");
    check("/usr/bin/node", "node /opt/shop.js --print x -e y", "shop");
    check("/usr/bin/node", "node -p 1+1", "node");
    check("/usr/bin/deno", "deno run --allow-net crm.ts -e x", "crm");
    check("/usr/bin/php8.2", "php8.2 -d x=y worker.php -r z", "shop");
    check("/usr/bin/ruby3.1", "ruby -r bundler/setup billing.rb -e x", "billing");
}

#[test]
fn servers_are_named_by_the_application_they_run() {
    let python = |command: &str, expected| check("/usr/bin/python3.11", command, expected);
    python("python3 /venv/bin/uvicorn main:app", "shop");
    python("python3 /venv/bin/gunicorn main:create_app()", "shop");
    python("python3 /venv/bin/gunicorn crm.factory:create_app(x=1) -w 2", "crm");
    python("python3 /venv/bin/gunicorn django.core.wsgi:get_wsgi_application()", "shop");
    python("python3 /venv/bin/celery -A mes.tasks worker -c 2", "mes");
    python("python3 -m celery --app=mes worker", "mes");
    python("python3 /venv/bin/celery worker", "celery");
    python("python3 /venv/bin/faststream run worker:app", "shop");
    python("python3 /venv/bin/dramatiq mes", "mes");
    python("python3 /venv/bin/dramatiq mes.actors --processes 2", "mes");
    python("python3 /venv/bin/flask --app crm run", "crm");
    check("/usr/bin/ruby3.1", "ruby bin/rails server -p 3000", "shop");
    let rooted =
        Facts { directory: "/app".to_owned(), ..facts("/usr/bin/python3", "python3 /v/uvicorn main:app") };
    assert_eq!(service(&rooted, &Services::default()).service, "uvicorn");
}

#[test]
fn a_title_in_place_of_arguments_is_read() {
    for (exe, title, expected) in [
        ("/usr/bin/ruby3.1", "puma 5.6.5 (tcp://0.0.0.0:9292) [rb]", "rb"),
        ("/usr/bin/ruby3.1", "puma: cluster worker 0: 123 [crm]", "crm"),
        ("/usr/bin/ruby3.1", "puma 5.6.5 (tcp://0.0.0.0:9292) [app]", "shop"),
        ("/usr/bin/ruby3.1", "sidekiq 6.5.1 mes [0 of 5 busy]", "mes"),
        ("/usr/bin/ruby3.1", "sidekiq 6.5.1 [0 of 5 busy]", "sidekiq"),
        ("/usr/bin/ruby3.1", "unicorn worker[0] -c config/unicorn.rb", "shop"),
        ("/usr/bin/ruby3.1", "Passenger RubyApp: /srv/crm (production)", "crm"),
        ("/usr/bin/perl", "starman worker --port 5000", "starman"),
        ("/usr/bin/python3.11", "gunicorn: worker [crm]", "crm"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: pool crm", "crm"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: pool www", "php-fpm"),
        ("/usr/bin/ruby3.1", "something else entirely", "ruby"),
    ] {
        let facts = Facts { command: vec![title.to_owned(), String::new()], ..facts(exe, "") };
        assert_eq!(service(&facts, &Services::default()).service, expected, "{title}");
    }
}

#[test]
fn a_worker_that_was_spawned_is_named_by_its_parent() {
    let spawned = "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)";
    let command = ["python3", "-c", spawned, "--multiprocessing-fork"].map(str::to_owned).to_vec();
    assert!(is_spawned(&command) && !is_spawned(&["python3", "-c", "print(1)"].map(str::to_owned)));
    let parent = ["python3", "/venv/bin/hypercorn", "crm.main:app"].map(str::to_owned).to_vec();
    let facts =
        |parent_command| Facts { command: command.clone(), parent_command, ..facts("/usr/bin/python3", "") };
    assert_eq!(service(&facts(parent), &Services::default()).service, "crm");
    assert_eq!(service(&facts(command.clone()), &Services::default()).service, "python");
    assert_eq!(service(&facts(Vec::new()), &Services::default()).service, "python");
}

#[test]
fn servers_have_the_names_people_use() {
    check("/usr/lib/erlang/erts/bin/beam.smp", "beam.smp -W w -s rabbit boot", "rabbitmq");
    check("/usr/lib/erlang/erts/bin/beam.smp", "beam.smp -sname orders@host", "orders");
    check("/usr/lib/postgresql/15/bin/postgres", "postgres: shop shop 127.0.0.1(5432) idle", "postgresql");
    check("/usr/sbin/nginx", "nginx: worker process", "nginx");
    check("/opt/crm/crmd", "crmd", "crmd");
    check("", "", "comm");
}

#[test]
fn unit_names_what_has_no_better_name() {
    let unit = Some("order-entry".to_owned());
    let named = |exe, command| {
        service(&Facts { unit: unit.clone(), ..facts(exe, command) }, &Services::default()).service
    };
    assert_eq!(named("/opt/x/bin/x", "x"), "order-entry");
    assert_eq!(named("/usr/bin/python3", "python3 app.py"), "order-entry");
    assert_eq!(named("/usr/lib/postgresql/15/bin/postgres", "postgres"), "postgresql");
}

#[test]
fn environment_wins_over_guesses() {
    let named = |service_name: Option<&str>, attributes: Option<&str>| {
        let environment = Environment {
            service_name: service_name.map(str::to_owned),
            resource_attributes: attributes.map(str::to_owned),
            instrumented: false,
        };
        service(&Facts { environment, ..facts("/usr/bin/node", "node crm.js") }, &Services::default())
    };
    assert_eq!(named(None, Some("a=b,service.name=my%20crm , service.namespace=ns")).service, "my crm");
    assert_eq!(named(None, Some("service.namespace=ns")).namespace.as_deref(), Some("ns"));
    assert_eq!(named(Some("x"), Some("service.name=y")).service, "x");
    assert_eq!(named(None, Some("=,,service.name=")).service, "crm");
}

#[test]
fn kubernetes_and_containers_win_over_guesses() {
    let named = |kubernetes: Option<&str>, container: Option<&str>, declared: Option<&str>| {
        let facts = Facts {
            kubernetes: Named { service: kubernetes.map(str::to_owned), namespace: Some("ns".to_owned()) },
            container: container.map(str::to_owned),
            environment: Environment { service_name: declared.map(str::to_owned), ..Environment::default() },
            unit: Some("unit".to_owned()),
            ..facts("/usr/bin/node", "node crm.js")
        };
        service(&facts, &Services::default()).service
    };
    assert_eq!(named(Some("k"), Some("c"), Some("d")), "d");
    assert_eq!(named(Some("k"), Some("c"), None), "k");
    assert_eq!(named(None, Some("c"), None), "c");
    assert_eq!(named(None, Some(""), None), "unit");
}

#[test]
fn first_rule_whose_conditions_all_hold_wins() {
    let rule = |exe: Option<&str>, command: Option<&str>, port, name: &str| ServiceName {
        exe: exe.map(str::to_owned),
        command: command.map(str::to_owned),
        port,
        name: name.to_owned(),
        namespace: None,
    };
    let services = Services {
        names: vec![
            rule(Some("/usr/bin/node"), None, Some(9999), "never"),
            rule(None, None, Some(8080), "by-port"),
            rule(Some("**/node"), Some("*crm*"), None, "by-both"),
            rule(Some("**/node"), None, None, "by-exe"),
        ],
        exclude: Vec::new(),
    };
    let named =
        |command, ports| service(&Facts { ports, ..facts("/usr/bin/node", command) }, &services).service;
    assert_eq!(named("node x.js", vec![80, 8080]), "by-port");
    assert_eq!(named("node /opt/crm.js", vec![]), "by-both");
    assert_eq!(named("node x.js", vec![]), "by-exe");
}
