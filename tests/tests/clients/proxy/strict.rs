//! Whoever looks hardest at certificates, on ours: Python as it checks from 3.13 on, OpenSSL with every check that it
//! has, and Java. Go's library is in `gh.rs`, rustls in `codex.rs`, BoringSSL in `claude.rs`.

use std::path::Path;

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::openai::OPENAI;
use strongroom_tests::fake_api::text;
use strongroom_tests::prelude::*;

use crate::stage::Stage;

mod python {
    use super::*;

    #[test]
    #[ignore = "needs the real clients: tests/clients/install"]
    fn x509_strict_takes_our_leaf() {
        let stage = Stage::of(OPENAI);
        let mut client =
            Builder::python("use_http.py", &["urllib_strict"]).run_as(&stage.strongroom, AGENT, &[]).start();
        assert_eq!(client.json()["text"], text());
        stage.assert_only_right();
    }
}

mod openssl {
    use super::*;

    /// Fetches the leaf through the proxy and looks at it.
    const SCRIPT: &str = r#"
        proxy=${HTTPS_PROXY#http://}
        openssl s_client -proxy "$proxy" -connect api.openai.com:443 -servername api.openai.com -x509_strict \
            -verify_return_error -verify_hostname "$1" -CAfile "$SSL_CERT_FILE" </dev/null >shown 2>&1 || exit 1
        openssl x509 -in shown -out leaf.pem || exit 2
        openssl verify -x509_strict -check_ss_sig -policy_check -purpose sslserver -verify_hostname "$1" \
            -CAfile "$SSL_CERT_FILE" leaf.pem
    "#;

    #[test]
    #[ignore = "needs the real clients: tests/clients/install"]
    fn x509_strict_takes_our_leaf_for_its_host_alone() {
        let stage = Stage::of(OPENAI);
        let look = |host| Builder::new("sh", &["-c", SCRIPT, "sh", host]).run_as(&stage.strongroom, AGENT, &[]).run();
        let output = look("api.openai.com");
        output.assert_code(0);
        assert!(output.stdout.ends_with("leaf.pem: OK\n"), "{output:?}");
        assert_eq!(look("api.anthropic.com").code, Some(1), "it is for one host");
    }
}

mod java {
    use super::*;

    #[test]
    #[ignore = "needs the real clients: tests/clients/install"]
    fn its_own_client_takes_our_leaf() {
        let stage = Stage::of(OPENAI);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/java/UseJava.java");
        let quick = "-XX:TieredStopAtLevel=1";
        let output =
            Builder::new("java", &[quick, source.to_str().unwrap()]).run_as(&stage.strongroom, AGENT, &[]).run();
        output.assert_code(0);
        assert!(output.stdout.starts_with("200 HTTP_2 {"), "{output:?}");
        assert!(output.stdout.contains("gpt-fake"), "{output:?}");
        stage.assert_only_right();
    }
}
