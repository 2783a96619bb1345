//! Pages for people name what the code can do.

use spoor_core::protocol::Protocol;
use spoor_tests::recorded::fixtures;

#[test]
fn pages_name_every_protocol_that_is_read() {
    for page in ["README.md", "docs/architecture.md"] {
        let text = std::fs::read_to_string(fixtures().join("../..").join(page)).expect(page);
        for protocol in Protocol::ALL {
            assert!(text.contains(protocol.title()), "{page} does not name {}", protocol.title());
        }
    }
}
