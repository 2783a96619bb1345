//! The sans-I/O façade: records and time in, finished spans and verdicts out.
//!
//! The live agent, `spoor replay`, the tests and the fuzzers all drive this one type. It has no socket, no clock, no
//! task: `now` is an argument, and everything it has to say is polled.
