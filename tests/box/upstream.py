"""A provider inside the box: TLS, HTTP/1.1, and a word about whether the real key came.

    upstream.py PORT CERTIFICATE KEY EXPECTED

It answers "the key came" where Authorization holds what is in the file EXPECTED (no argument may be the real key: systemd
writes command lines into the journal), else what else it saw of it, at once or, for paths that end in
/slow, in thirty pieces over three seconds. It refuses nothing. Started by installed.sh.
"""

import http.server
import ssl
import sys
import time

PORT, CERTIFICATE, KEY, FILE = sys.argv[1:]
with open(FILE, encoding="ascii") as file:
    EXPECTED = file.read()


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        came = self.headers.get("Authorization", "nothing")
        text = "the key came\n" if came == f"Bearer {EXPECTED}" else f"no key came: {came}\n"
        is_slow = self.path.endswith("/slow")
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(30 * 10 + len(text) if is_slow else len(text)))
        self.end_headers()
        if is_slow:
            for _ in range(30):
                time.sleep(0.1)
                self.wfile.write(b"not yet..\n")
                self.wfile.flush()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Provider)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
