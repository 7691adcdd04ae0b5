//! Real client programs through the proxy, by the providers' real names, with the environment of `strongroom run` and
//! nothing else that is set for them.
//!
//! As root each test is on a machine alone, so whatever goes past the proxy fails; and the providers take the real key,
//! which no client has. One file a kind of client; `strict.rs` has what looks hardest at our certificates.

/// The tests of one library through the proxy, and those of its streams where it has some.
macro_rules! library {
    ($name:ident, $library:expr $(, $streaming:ident)?) => {
        mod $name {
            use super::*;
            use crate::way::Way::Proxy;

            const LIBRARY: Library = $library;

            #[test]
            #[ignore = "needs the real clients: tests/clients/install"]
            fn calls_work_and_no_key_is_held() {
                LIBRARY.works(Proxy);
            }

            #[test]
            #[ignore = "needs the real clients: tests/clients/install"]
            fn refusals_are_readable_and_not_retried() {
                LIBRARY.tells_refusals_in_the_tunnel(crate::table::http(module_path!()));
            }

            $(mod $streaming {
                use super::{LIBRARY, Proxy};

                #[test]
                #[ignore = "needs the real clients: tests/clients/install"]
                fn every_event_arrives_before_the_next_is_sent() {
                    LIBRARY.streams(Proxy);
                }

                #[test]
                #[ignore = "needs the real clients: tests/clients/install"]
                fn what_breaks_off_is_no_end() {
                    LIBRARY.notices_what_breaks_off(Proxy);
                }
            })?
        }
    };
}

mod claude;
mod codex;
mod curl;
mod gh;
mod git;
mod node;
mod packages;
mod python;
mod strict;
