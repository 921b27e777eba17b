"""Serves moto on a port that the system chooses.

`moto_server` takes a port and does not say which one it got for 0; this writes it to the file named by
the first argument, once the socket listens. It ends when its standard input ends: the test process
holds the other end of that pipe, so no emulator outlives a test that was killed.

A large account takes longer to build than a test takes to run in it. So an emulator makes copies of itself, with all that
is in it at that moment: a POST to /harness/copy answers with the process id and the port of a new one. It
lives in the same process group, and ends as this one does, or when it is killed.

Telling of hundreds of machines takes moto a second, where AWS is done in a few milliseconds. After a POST to
/harness/keep an answer to a question that changes nothing is kept, and given again to the same question by the same
caller for as long as nothing at all has changed.
"""

import io
import os
import signal
import sys
import threading

import moto_iam
import moto_fleet
from moto.ec2.utils import filter_dict_attribute_mapping
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


# EC2 documents this filter; moto has the attribute and lacks only the name.
filter_dict_attribute_mapping.setdefault("iam-instance-profile.arn", "iam_instance_profile.Arn")

moto_iam.extend()
moto_fleet.extend()


def end_with_stdin() -> None:
    # Not through a buffer: a copy would find it locked by a thread that it does not have.
    while os.read(0, 4096):
        pass
    os._exit(0)


class Kept:
    """Answers that hold for as long as nothing changes."""

    READS = ("Describe", "Get", "List", "Simulate")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changes = 0
        self.answers = {}

    def answer(self, app, environ, start_response):
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size)
        environ["wsgi.input"] = io.BytesIO(body)
        if not self.reads(environ, body):
            # What was asked before it was done, or while, is forgotten, whether it was told before or after.
            self.change()
            try:
                return list(app(environ, start_response))
            finally:
                self.change()
        # Who asks, of which service in which region: KEY/DATE/REGION/SERVICE.
        caller = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition(",")[0]
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        path = environ["PATH_INFO"] + "?" + environ.get("QUERY_STRING", "")
        question = (caller, target, environ["REQUEST_METHOD"], path, body)
        with self.lock:
            now, kept = self.changes, self.answers.get(question)
        if kept:
            start_response(*kept[0])
            return [kept[1]]
        head = []

        def begin(status, headers, exc_info=None):
            head[:] = [status, list(headers)]
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        told = b"".join(app(environ, begin))
        with self.lock:
            if self.changes == now and head[0].startswith("200"):
                self.answers[question] = (tuple(head), told)
        return [told]

    def reads(self, environ, body) -> bool:
        if environ["REQUEST_METHOD"] == "GET":
            return True
        action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2].encode()
        for field in body.split(b"&"):
            if field.startswith(b"Action="):
                action = field[len(b"Action=") :]
        return action.decode().startswith(self.READS)

    def change(self) -> None:
        with self.lock:
            self.changes += 1
            self.answers.clear()


class Emulator:
    def __init__(self, app) -> None:
        self.app = app
        self.server = None
        self.kept = None

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/harness/keep":
            self.kept = Kept()
            return self.say("kept", start_response)
        if path == "/harness/copy":
            return self.say("{} {}".format(*self.copy()), start_response)
        if self.kept is None:
            return self.app(environ, start_response)
        return self.kept.answer(self.app, environ, start_response)

    def say(self, text, start_response):
        body = text.encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    def copy(self) -> tuple[int, int]:
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            # Of the threads only this one is in the copy. It never returns to the caller, whom the original answers.
            os.close(told)
            self.server.socket.close()
            # Its lock may be held by a thread that is not here.
            self.kept = self.kept and Kept()
            self.serve(lambda port: os.write(tell, str(port).encode()))
            os._exit(0)
        os.close(tell)
        port = int(os.read(told, 16))
        os.close(told)
        return child, port

    def serve(self, tell) -> None:
        self.server = make_server("127.0.0.1", 0, self, threaded=True)
        os.environ["MOTO_PORT"] = str(self.server.server_port)
        threading.Thread(target=end_with_stdin, daemon=True).start()
        tell(self.server.server_port)
        self.server.serve_forever()


def main() -> None:
    port_file = sys.argv[1]

    def tell(port: int) -> None:
        with open(port_file + ".new", "w", encoding="ascii") as file:
            file.write(f"{port}\n")
        os.rename(port_file + ".new", port_file)

    # Copies that end leave nothing to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    app = DomainDispatcherApplication(create_backend_app)
    app.debug = True
    Emulator(app).serve(tell)


if __name__ == "__main__":
    main()
