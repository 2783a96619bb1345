//! A role and an action → yes or no: the one place where rights are decided.

use std::fmt;

/// What somebody is to the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Answers customers: orders, and who is concerned.
    Support,
    /// Finds faults: orders and technical details, people masked.
    Developer,
    /// Reads the access log and nothing else.
    Auditor,
    Admin,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Support, Role::Developer, Role::Auditor, Role::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Role::Support => "support",
            Role::Developer => "developer",
            Role::Auditor => "auditor",
            Role::Admin => "admin",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a route does, and so the word in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// For everybody from an allowed address: signing in, styles. Not logged.
    Open,
    /// An attempt to sign in: everybody, logged.
    SignIn,
    SignOut,
    OrderView,
    OrderSearch,
    List,
    TraceView,
    /// Traces, as Jaeger's page and Grafana ask for them.
    JaegerRead,
    /// Learning that an order changed, not how.
    Watch,
    /// Not a route: whether numbers of people are shown.
    SeePeople,
    Pin,
    /// Taking an alert, or not wanting to hear of it for a while.
    Acknowledge,
    /// Trying a rule on the orders of the past.
    RuleTry,
    AccessLog,
}

impl Action {
    pub const ALL: [Action; 14] = [
        Action::Open,
        Action::SignIn,
        Action::SignOut,
        Action::OrderView,
        Action::OrderSearch,
        Action::List,
        Action::TraceView,
        Action::JaegerRead,
        Action::Watch,
        Action::SeePeople,
        Action::Pin,
        Action::Acknowledge,
        Action::RuleTry,
        Action::AccessLog,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Action::Open => "open",
            Action::SignIn => "sign_in",
            Action::SignOut => "sign_out",
            Action::OrderView => "order.view",
            Action::OrderSearch => "order.search",
            Action::List => "list",
            Action::TraceView => "trace.view",
            Action::JaegerRead => "jaeger.read",
            Action::Watch => "watch",
            Action::SeePeople => "people",
            Action::Pin => "pin",
            Action::Acknowledge => "acknowledge",
            Action::RuleTry => "rule.try",
            Action::AccessLog => "access_log.read",
        }
    }

    /// Nobody needs to be known for it.
    pub fn is_for_all(self) -> bool {
        matches!(self, Action::Open | Action::SignIn)
    }
}

/// Whether a role may do something. What is not listed may not be done.
pub fn allow(role: Role, action: Action) -> bool {
    match action {
        Action::Open | Action::SignIn | Action::SignOut => true,
        Action::OrderView
        | Action::OrderSearch
        | Action::List
        | Action::Watch
        | Action::Pin
        | Action::Acknowledge => matches!(role, Role::Support | Role::Developer | Role::Admin),
        Action::TraceView | Action::JaegerRead | Action::RuleTry => {
            matches!(role, Role::Developer | Role::Admin)
        }
        Action::SeePeople => matches!(role, Role::Support | Role::Admin),
        Action::AccessLog => matches!(role, Role::Auditor | Role::Admin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_the_table_says_and_nothing_else() {
        let mut table = String::new();
        for action in Action::ALL {
            let may: Vec<&str> =
                Role::ALL.iter().filter(|role| allow(**role, action)).map(|role| role.name()).collect();
            table.push_str(&format!("{}: {}\n", action.name(), may.join(" ")));
        }
        let expected = "\
open: support developer auditor admin
sign_in: support developer auditor admin
sign_out: support developer auditor admin
order.view: support developer admin
order.search: support developer admin
list: support developer admin
trace.view: developer admin
jaeger.read: developer admin
watch: support developer admin
people: support admin
pin: support developer admin
acknowledge: support developer admin
rule.try: developer admin
access_log.read: auditor admin
";
        assert_eq!(table, expected);
    }
}
