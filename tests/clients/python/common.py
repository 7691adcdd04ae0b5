"""What the scripts of all Python clients share: the action's name comes as an argument, what happened goes out as one JSON
object a line, and the process stays until its standard input ends, so that a test can look at it. It refuses to handle an
error: that is what a test wants to see. Called by the scripts beside it."""

import json
import logging
import sys


def say(**what):
    print(json.dumps(what), flush=True)


class Attempts(logging.Handler):
    """Counts requests, as the HTTP libraries log them and the standard library's tells its audit hooks: a library that
    tries again says so in no other place."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.count = 0

    def emit(self, record):
        text = record.getMessage()
        of_urllib3 = record.name.startswith("urllib3") and '" ' in text
        if of_urllib3 or text.startswith("HTTP Request: "):
            self.count += 1

    def see(self, event, _arguments):
        if event == "urllib.Request":
            self.count += 1


# For the script of a library that says nothing anywhere.
ATTEMPTS = Attempts()


def main(**actions):
    attempts = ATTEMPTS
    sys.addaudithook(attempts.see)
    for name in ("httpx", "httpx2", "urllib3"):
        logging.getLogger(name).addHandler(attempts)
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        actions[sys.argv[1]]()
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        say(error=kinds[0], kinds=kinds, status=status_of(error), message=str(error), attempts=attempts.count)
    else:
        say(done=sys.argv[1], attempts=attempts.count)
    sys.stdin.read()


def status_of(error):
    for name in ("status_code", "http_status", "code", "status"):
        status = getattr(error, name, None)
        if isinstance(status, int):
            return status
    return getattr(getattr(error, "response", None), "status_code", None)
