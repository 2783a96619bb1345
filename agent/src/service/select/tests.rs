use super::*;
use crate::service::container::Pod;

fn selector(yaml: &str) -> Selector {
    let text = format!("select:\n  include:\n    - {yaml}\n");
    crate::config::load::parse("test", &text).unwrap().select.include.swap_remove(0)
}

fn shop() -> Container {
    Container {
        name: "main".to_owned(),
        image: String::new(),
        pod: Some(Pod {
            namespace: "factory".to_owned(),
            name: "shop-0".to_owned(),
            labels: [("app".to_owned(), "shop".to_owned())].into(),
            ..Pod::default()
        }),
    }
}

#[track_caller]
fn check(yaml: &str, expected: bool) {
    let container = shop();
    let cgroups = ["/kubepods.slice/x.scope".to_owned()];
    let facts = Facts {
        tgid: Tgid(42),
        exe: "/usr/bin/python3.11",
        comm: "python3",
        command: "python3 /srv/shop.py",
        service: "shop",
        ports: &[8080],
        container_id: Some("0123456789abcdef"),
        container: Some(&container),
        cgroups: &cgroups,
        netns: 4026531840,
        host_netns: true,
        instrumented: false,
        ended: false,
    };
    let include = Select { include: vec![selector(yaml)], ..Select::default() };
    assert_eq!(Selection::new(&include, &[]).choose(&facts) == Choice::Traced, expected, "include {yaml}");
    let exclude = Select { exclude: vec![selector(yaml)], ..Select::default() };
    assert_eq!(Selection::new(&exclude, &[]).choose(&facts) == Choice::Excluded, expected, "exclude {yaml}");
}

#[test]
fn every_condition_can_hold_and_fail() {
    for (holds, fails) in [
        ("exe: /usr/bin/python*", "exe: /usr/bin/node"),
        ("command: '*shop.py*'", "command: '*crm.py*'"),
        ("service: sh?p", "service: crm"),
        ("port: 8080", "port: 80"),
        ("pid: 42", "pid: 43"),
        ("container: main", "container: side"),
        ("container: '0123456789ab'", "container: 'ab0123456789'"),
        ("namespace: fact*", "namespace: default"),
        ("pod: shop-*", "pod: crm-*"),
        ("pod_labels: { app: shop }", "pod_labels: { app: shop, tier: web }"),
        ("cgroup: /kubepods*", "cgroup: /system.slice*"),
        ("netns: host", "netns: '17'"),
        ("netns: '4026531840'", "netns: '4026531841'"),
        ("{ exe: '**/python*', port: 8080 }", "{ exe: '**/python*', port: 80 }"),
    ] {
        check(holds, true);
        check(fails, false);
    }
}

#[test]
fn what_is_not_known_does_not_hold() {
    let selection =
        |yaml: &str| Selection::new(&Select { include: vec![selector(yaml)], ..Select::default() }, &[]);
    for yaml in ["namespace: '*'", "pod_labels: { app: '*' }", "container: '*'", "cgroup: '*'"] {
        assert_eq!(selection(yaml).choose(&Facts::default()), Choice::Excluded, "{yaml}");
    }
}

#[test]
fn defaults_leave_the_machine_and_other_tracers_alone() {
    let choose = |select: Select, exe: &str, instrumented: bool| {
        Selection::new(&select, &[]).choose(&Facts { exe, instrumented, ..Facts::default() })
    };
    for exe in [
        "/usr/sbin/sshd",
        "/lib/systemd/systemd-resolved",
        "/usr/bin/otelcol-contrib",
        "/beyla",
        "/usr/bin/spoor",
    ] {
        assert_eq!(choose(Select::default(), exe, false), Choice::Excluded, "{exe}");
        let all = Select { default_excludes: false, ..Select::default() };
        assert_eq!(choose(all, exe, false), Choice::Traced, "{exe}");
    }
    for exe in ["/usr/bin/python3", "/usr/sbin/nginx", "/usr/lib/postgresql/15/bin/postgres", "/opt/vectors"]
    {
        assert_eq!(choose(Select::default(), exe, false), Choice::Traced, "{exe}");
    }
    // Somebody wants it.
    let named = Select { include: vec![selector("exe: '**/otelcol*'")], ..Select::default() };
    assert_eq!(choose(named, "/usr/bin/otelcol", false), Choice::Traced);
    assert_eq!(choose(Select::default(), "/opt/shop", true), Choice::Traced);
    let without = Select { exclude_instrumented: true, ..Select::default() };
    assert_eq!(choose(without, "/opt/shop", true), Choice::Excluded);
}

#[test]
fn exclusion_wins_over_inclusion() {
    let select = Select {
        include: vec![selector("exe: '**/python*'")],
        exclude: vec![selector("port: 8080")],
        ..Select::default()
    };
    let facts = Facts { exe: "/usr/bin/python3", ports: &[8080], ..Facts::default() };
    assert_eq!(Selection::new(&select, &[]).choose(&facts), Choice::Excluded);
    let facts = Facts { exe: "/usr/bin/python3", ..Facts::default() };
    assert_eq!(Selection::new(&select, &[]).choose(&facts), Choice::Traced);
    assert_eq!(Selection::new(&select, &["**/python3".to_owned()]).choose(&facts), Choice::Excluded);
}

#[test]
fn what_is_gone_is_traced_by_its_name_only_where_no_condition_could_say_otherwise() {
    let judge = |select: Select, exclude: &[&str], comm: &str| {
        let exclude: Vec<String> = exclude.iter().map(|text| (*text).to_owned()).collect();
        Selection::new(&select, &exclude).judge(comm)
    };
    assert_eq!(judge(Select::default(), &[], "curl"), Choice::Traced);
    for comm in ["otelcol-attack", "sshd", "", "kube-controller"] {
        assert_eq!(judge(Select::default(), &[], comm), Choice::Excluded, "{comm}");
    }
    assert_eq!(judge(Select::default(), &["/opt/backup"], "curl"), Choice::Excluded);
    let only = Selector { exe: Some("/opt/mes/**".to_owned()), ..Selector::default() };
    let include = Select { include: vec![only.clone()], ..Select::default() };
    assert_eq!(judge(include, &[], "curl"), Choice::Excluded);
    let exclude = Select { exclude: vec![only], ..Select::default() };
    assert_eq!(judge(exclude, &[], "curl"), Choice::Excluded);
    let all = Select { default_excludes: false, ..Select::default() };
    assert_eq!(judge(all, &[], ""), Choice::Traced);
}

#[test]
fn what_ended_before_it_was_read_is_excluded_by_what_could_have_been_there() {
    let choose = |select: Select, exclude_exe: &[String], facts: Facts<'_>| {
        let selection = Selection::new(&select, exclude_exe);
        (selection.choose(&Facts { ended: false, ..facts.clone() }), selection.choose(&facts))
    };
    let exclude = |text| Select { exclude: vec![selector(text)], ..Select::default() };
    let (cgroups, root) = (["/system.slice/a".to_owned()], ["/".to_owned()]);
    let ended = Facts { comm: "short", ended: true, cgroups: &cgroups, ..Facts::default() };
    let doubted = (Choice::Traced, Choice::Excluded);
    for text in ["exe: /opt/short", "command: short *", "service: short", "port: 80", "netns: \"17\""] {
        assert_eq!(choose(exclude(text), &[], ended.clone()), doubted, "{text}");
    }
    assert_eq!(choose(Select::default(), &["/opt/short".to_owned()], ended.clone()), doubted);
    let instrumented = Select { exclude_instrumented: true, ..Select::default() };
    assert_eq!(choose(instrumented, &[], ended.clone()), doubted);
    // What is known decides: another cgroup, another program.
    let traced = (Choice::Traced, Choice::Traced);
    assert_eq!(choose(exclude("cgroup: /backup/**"), &[], ended.clone()), traced);
    assert_eq!(
        choose(exclude("cgroup: /backup/**"), &[], Facts { cgroups: &root, ..ended.clone() }),
        doubted
    );
    assert_eq!(choose(exclude("exe: /opt/short"), &[], Facts { exe: "/opt/long", ..ended.clone() }), traced);
    assert_eq!(choose(Select::default(), &[], ended.clone()), traced);
    let include = Select { include: vec![selector("cgroup: /system.slice/**")], ..Select::default() };
    assert_eq!(choose(include, &[], ended), traced);
}
