"""Serves moto on a port that the system chooses.

`moto_server` takes a port and does not say which one it got for 0; this writes it to the file named by
the first argument, once the socket listens. It ends when its standard input ends: the test process
holds the other end of that pipe, so no emulator outlives a test that was killed.

A large account takes longer to build than a test takes to run in it. So an emulator makes copies of itself, with all that
is in it at that moment: a POST to /harness/copy answers with the process id and the port of a new one. It
lives in the same process group, and ends as this one does, or when it is killed.
"""

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


class Emulator:
    def __init__(self, app) -> None:
        self.app = app
        self.server = None

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] != "/harness/copy":
            return self.app(environ, start_response)
        body = "{} {}".format(*self.copy()).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    def copy(self) -> tuple[int, int]:
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            # Of the threads only this one is in the copy. It never returns to the caller, whom the original answers.
            os.close(told)
            self.server.socket.close()
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
