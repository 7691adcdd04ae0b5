//! Real client programs against providers' APIs as they expect them: by base URL here, through the proxy in `proxy/`.
//!
//! `tests/clients/install` puts the programs below target/clients; `make test` calls it. What each client can do is told
//! by its own file; `stage.rs` has the daemons, `library.rs` what holds for every library, and `table.rs` makes
//! docs/clients.md of it all.

/// The tests of one library by base URL, and those of its streams where it has some.
macro_rules! library {
    ($name:ident, $library:ident $(, $streaming:ident)?) => {
        mod $name {
            use super::$library as LIBRARY;

            #[test]
            #[ignore = "needs the real clients: tests/clients/install"]
            fn calls_work_and_no_key_is_held() {
                LIBRARY.works(crate::way::Way::BaseUrl);
            }

            #[test]
            #[ignore = "needs the real clients: tests/clients/install"]
            fn errors_are_readable_and_not_retried_for_ever() {
                LIBRARY.tells_errors();
            }

            $(mod $streaming {
                use super::LIBRARY;

                #[test]
                #[ignore = "needs the real clients: tests/clients/install"]
                fn every_event_arrives_before_the_next_is_sent() {
                    LIBRARY.streams(crate::way::Way::BaseUrl);
                }

                #[test]
                #[ignore = "needs the real clients: tests/clients/install"]
                fn what_breaks_off_is_no_end() {
                    LIBRARY.notices_what_breaks_off(crate::way::Way::BaseUrl);
                }
            })?
        }
    };
}

/// The tests of one library that streams and shows nothing of what a refusal says.
macro_rules! wordless {
    ($name:ident, $library:expr, $way:ident, $stream:ident: $method:ident) => {
        mod $name {
            const LIBRARY: crate::library::Library = $library;

            #[test]
            #[ignore = "needs the real clients: tests/clients/install"]
            fn calls_work_and_no_key_is_held() {
                LIBRARY.works(crate::way::Way::$way);
            }

            #[test]
            #[ignore = "needs the real clients: tests/clients/install"]
            fn a_refusal_is_an_error_without_its_words() {
                LIBRARY.fails_without_words(crate::way::Way::$way, module_path!());
            }

            mod streaming {
                use super::LIBRARY;

                #[test]
                #[ignore = "needs the real clients: tests/clients/install"]
                fn $stream() {
                    LIBRARY.$method(crate::way::Way::$way);
                }

                #[test]
                #[ignore = "needs the real clients: tests/clients/install"]
                fn what_breaks_off_is_no_end() {
                    LIBRARY.notices_what_breaks_off(crate::way::Way::$way);
                }
            }
        }
    };
}

mod claude;
mod curl;
mod git;
mod library;
mod node;
mod proxy;
mod python;
mod stage;
mod table;
mod way;
