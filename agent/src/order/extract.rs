//! One operation in, its [`Found`](super::Found) out, by the compiled rules.
