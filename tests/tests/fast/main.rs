//! What needs neither privileges nor servers: recorded and scripted traffic → operations, spans, exports, as expected.
//!
//! One program, so that the agent is linked once. Its tests run side by side in one process: none may change what all
//! of them share (environment, working directory, signals), and what is measured is of the test's own thread. Tests that
//! count memory are in `allocations`, which has an allocator of its own; what loads the agent into the kernel or starts
//! servers is in `live`.
//!
//! | what | modules |
//! |---|---|
//! | the core on scripted traffic | `pipeline`, `joining`, `order_root`, `agents`, `http2`, `robust` |
//! | sessions on captures of real programs, whole, cut, and with losses | `http1`, `http1_captures`, `http2_captures`, `amqp_captures`, `amqp_losses`, `postgres_captures`, `postgres_losses` |
//! | captures through the whole core | `replay_captures`, `capture_spans`, `upgrades`, `field` |
//! | other implementations on the same bytes | `oracle_amqp`, `oracle_postgres` |
//! | foreign and hostile bytes, secrets | `fuzz`, `hostile`, `privacy` |
//! | what is open, from the traffic to the sentence | `open_work` |
//! | exporter, command line, packages | `export`, `export_changes`, `export_google`, `export_refused`, `cli`, `ends`, `packages`, `dashboards` |
//! | what pages say of the code | `pages` |

mod agents;
mod amqp_captures;
mod amqp_losses;
mod capture_spans;
mod cli;
mod dashboards;
mod ends;
mod export;
mod export_changes;
mod export_google;
mod export_refused;
mod field;
mod fuzz;
mod hostile;
mod http1;
mod http1_captures;
mod http2;
mod http2_captures;
mod joining;
mod open_work;
mod oracle_amqp;
mod oracle_postgres;
mod order_root;
mod packages;
mod pages;
mod pipeline;
mod postgres_captures;
mod postgres_losses;
mod privacy;
mod privacy_marked;
mod queued;
mod replay_captures;
mod robust;
mod tls_captures;
mod upgrades;
